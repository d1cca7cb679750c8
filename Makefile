PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test test-foreign test-formats test-gpu test-label-studio test-ray lint bench bench-gpu docs clean

# One marker file per state of pyproject.toml: the environment is built once and again only when it changes.
$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

demo: $(VENV)/.installed
	$(BIN)/miaod run experiments/digits.yaml

test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not gpu"

# In an environment of its own, since Datumaro needs an older Pillow and an older pandas than everything else takes.
test-formats: pyproject.toml
	test -x .venv-formats/bin/python || $(PYTHON) -m venv .venv-formats
	.venv-formats/bin/python -m pip install --quiet --editable ".[test,formats-test]"
	.venv-formats/bin/python -m pytest tests/miaod_plugin/test_independent_readers.py

test-foreign: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable ".[foreign-test]"
	$(BIN)/python -m pytest tests/miaod_plugin/test_foreign.py

test-ray: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable ".[ray]"
	$(BIN)/python -m pytest -m slow tests/experiments/test_ray_tasks.py tests/miaod_plugin/test_rank_on_ray.py

test-gpu: $(VENV)/.installed
	CUDA_VISIBLE_DEVICES=$${CUDA_VISIBLE_DEVICES:-0} $(BIN)/python -m pytest -m gpu

# Label Studio asks for other versions of what we need: it has an environment of its own.
test-label-studio: $(VENV)/.installed
	test -x $(VENV)-label-studio/bin/label-studio || { \
		$(PYTHON) -m venv $(VENV)-label-studio && \
		$(VENV)-label-studio/bin/python -m pip install --quiet "label-studio>=1.23,<2"; }
	PATH="$(CURDIR)/$(VENV)-label-studio/bin:$$PATH" $(BIN)/python -m pytest -m slow tests/miaod_plugin/test_label_studio_server.py

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(VENV)/.installed
	$(BIN)/python -m miaod_plugin.experiments.benchmarks.bench

bench-gpu: $(VENV)/.installed
	$(BIN)/python -m miaod_plugin.experiments.benchmarks.gpu

docs: $(VENV)/.installed
	$(BIN)/miaod config --markdown > docs/configuration.md

clean:
	rm -rf $(VENV) $(VENV)-label-studio .venv-formats runs build *.egg-info
