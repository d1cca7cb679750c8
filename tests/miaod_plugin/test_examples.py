"""The scripts in `examples/` do what they say."""

import runpy
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_loop_on_one_s_own_photographs(tmp_path, capsys):
    main = runpy.run_path(str(EXAMPLES / "own_photographs.py"))["main"]
    page = main(tmp_path / "project", photographs=20, training={"max_steps": 2, "batch_size": 4})
    assert page == tmp_path / "project" / "report.html" and page.stat().st_size > 10_000
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in told] == ["round 1", "round 2", "round 3"]
    assert told[-1].startswith("round 3: 8 photographs, AP50 0.") and told[-1].endswith("on 4 held out")
