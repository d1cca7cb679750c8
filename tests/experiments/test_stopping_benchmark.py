from pathlib import Path

from miaod_plugin.experiments.benchmarks import stopping


def test_the_table_of_the_results_page_is_what_the_committed_studies_give(capsys):
    stopping.main()
    page = (Path(__file__).parents[2] / "experiments" / "results" / "README.md").read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    assert printed.count("\n") == 16 and printed in page
