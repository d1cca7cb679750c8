"""An experiment whose two workers share a GPU: `make test-gpu`."""

import os

import pytest
import torch
from tiny_experiment import run_tiny, untimed

DEVICE = os.environ.get("MIAOD_GPU_TESTS_ON", "cuda")


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="there is no GPU")
def test_two_workers_share_a_gpu(tmp_path):
    run, _ = run_tiny(tmp_path, device=DEVICE, jobs=2)
    rows = untimed(run)
    assert len(rows) == 3 * 2 * 3 and {row["images"] for row in rows} == {"4", "7", "9"}
