# Every target works from a fresh clone: the environment in .venv is made when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-gpu lint figures bench docs wheel clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

# PIP_ARGS goes to pip, to choose another build of torch, say.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_ARGS) --constraint constraints.txt --editable .
	@touch $@

$(READY): $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_ARGS) --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(VENV)/installed  ## forget the windows of the built-in bedroom DCGAN and say where the figure is
	$(BIN)/probe forget-windows --ckpt rooms

test: $(READY)  ## the fast tests (under 4 minutes on 2 cores)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m 'not slow'

test-all: $(READY)  ## all tests, the slow ones too
	OMP_NUM_THREADS=1 $(BIN)/pytest

test-gpu: $(READY)  ## the tests that need a CUDA device; they skip, and say so, where there is none
	$(BIN)/pytest -n 0 -m gpu -rs tests/gpu

lint: $(READY)  ## style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

figures: $(READY)  ## run the recipes of analyses/ that take minutes, into figures/, and list them there
	$(BIN)/python -m analyses.all

bench: $(READY)  ## the benchmarks: ratios against a named baseline, measured in the same run
	$(BIN)/python benchmarks/train_step.py
	$(BIN)/python benchmarks/forget_windows.py
	$(BIN)/python benchmarks/guided_backprop.py
	$(BIN)/python benchmarks/dedup_memory.py
	$(BIN)/python benchmarks/classify.py --large

$(VENV)/docs: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_ARGS) --constraint constraints.txt --editable '.[docs]'
	@touch $@

docs: $(VENV)/docs  ## the documentation, into out/docs: reference, gallery, the tutorial run; warnings are errors
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going docs out/docs
	@echo "docs: out/docs/index.html"

wheel: $(READY)  ## build the wheel and check what is in it
	rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist .
	$(BIN)/check-wheel-contents dist/*.whl

clean:  ## remove what can be made again
	rm -rf $(VENV) dist out .pytest_cache .mypy_cache .ruff_cache
