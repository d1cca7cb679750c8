import subprocess
import sys

import pytest

# One process for each size, since what a process has once used counts for its peak.
SCRIPT = """
import os
import sys
from pathlib import Path
import numpy as np
from miaod_plugin import MIAODDetector
from miaod_plugin.data import make_digit_scenes, write_voc
from miaod_plugin.strategies import MIAODSampling

data = make_digit_scenes(4, random_state=0)
write_voc(data, sys.argv[1])
path = next(Path(sys.argv[1]).glob("JPEGImages/*"))
detector = MIAODDetector(
    "retinanet_tiny", data.classes, detector_options={"width": 8, "fpn_channels": 16}, max_steps=1,
    score_batch_size=50, cache=Path(sys.argv[1], "cache"), random_state=0).fit(data.X, data.y)
pool = [path.with_name(f"{row}.png") for row in range(int(sys.argv[2]))]
for name in pool:
    os.link(path, name)
for _ in range(2):
    MIAODSampling(adapt=False).query(detector, np.array(list(map(str, pool))), n_instances=10)
assert Path(sys.argv[1], "cache").stat().st_size > len(pool) * 3 * 64 * 64
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))  # in KiB
"""


def peak_memory(folder, n_images: int) -> float:
    """Return the most memory, in MiB, that querying a pool of image files has taken, decoding them and from a cache."""
    command = [sys.executable, "-c", SCRIPT, str(folder / str(n_images)), str(n_images)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1024


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_pool_of_20000_images_needs_no_more_memory_than_one_of_200(tmp_path):
    assert peak_memory(tmp_path, 20_000) < peak_memory(tmp_path, 200) + 50
