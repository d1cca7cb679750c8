"""What every test runs on."""

import os

# The CPU, wherever the tests run: bits are compared. `CUDA_VISIBLE_DEVICES=0 make test` uses a GPU all the same.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
