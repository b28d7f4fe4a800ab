# Needs only make and Python 3.11 or newer.  `make demo PYTHON=python3.12` picks another interpreter.
# Each environment is made once; its stamp file is newer than pyproject.toml as long as it is up to date.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
    $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; exit; }; done; echo python3)
VENV       ?= .venv
TORCH_VENV ?= .venv-torch
PY         := $(VENV)/bin/python
TORCH_PY   := $(TORCH_VENV)/bin/python
PIP_QUIET  := -m pip install --quiet --disable-pip-version-check
JOBS       ?= 2
PYTEST_ARGS ?=
BENCH_ARGS ?=

# Compiled bytecode is half of the start-up time: keep it, whatever the caller's shell says.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test relocated bench profile lint types conformance oracle record clean env

help:           ## this list
	@grep -E '^[a-z-]+: .*##|^[a-z-]+:  *##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */  make \1\t/' | expand -t 22

demo: $(VENV)/.demo    ## the tutorial, then handwritten digits, in an environment of its own
	@$(PY) -m flambeau run examples/tutorial.py
	@echo
	@$(PY) -m flambeau run examples/digits.py

test: $(VENV)/.dev     ## the tests (PYTEST_ARGS='tests/test_cli.py -x')
	$(PY) -m pytest -n $(JOBS) $(PYTEST_ARGS)

relocated: $(VENV)/.dev    ## tests in which every view is read and written at a run-time place
	$(PY) -m pytest -q -n $(JOBS) --relocate $(addprefix tests/test_,indexing.py stream.py schedule.py promises.py autograd.py inference_mode.py passes.py)

bench: $(VENV)/.demo $(TORCH_VENV)/.torch   ## every benchmark under both libraries (BENCH_ARGS='--quick --only softmax')
	$(PY) benchmarks/run.py --flambeau $(PY) --torch $(TORCH_PY) $(BENCH_ARGS)

profile: $(VENV)/.demo ## what a recorded call and each stage of a training step cost
	$(PY) benchmarks/stages.py

lint: $(VENV)/.dev     ## ruff, then the import rules
	$(VENV)/bin/ruff check .
	$(PY) -m pytest -q tests/test_import_rules.py

types: $(VENV)/.dev    ## mypy over the package
	$(VENV)/bin/mypy

conformance: $(TORCH_VENV)/.torch  ## PyTorch's own samples (../shared/conformance) against conformance/passing.txt
	$(TORCH_PY) scripts/conformance_ratchet.py --jobs $(JOBS)

oracle: $(TORCH_VENV)/.torch       ## tests that ask PyTorch itself: values and refusals of every operation, every layer
	$(TORCH_PY) -m pytest -q -n $(JOBS) tests/test_ops.py tests/test_nn_layers.py tests/test_reference.py -k "pytorch or nn_layers or 16_bit"

record: $(TORCH_VENV)/.torch       ## ask PyTorch again for the outputs in tests/recorded
	$(TORCH_PY) scripts/record_torch.py

clean:          ## remove environments and what examples and benchmarks wrote
	rm -rf $(VENV) $(TORCH_VENV) examples/output benchmarks/results conformance/results build dist .pytest_cache .mypy_cache .ruff_cache

# ---- environments

env: $(VENV)/.dev $(TORCH_VENV)/.torch

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else "Flambeau needs Python 3.11 or newer; $(PYTHON) is %d.%d. Try: make PYTHON=python3.12" % v[:2])'
	@echo "Making $(VENV) with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml
	@echo "Installing Flambeau, NumPy, llvmlite and Matplotlib into $(VENV) ..."
	@$(PY) $(PIP_QUIET) -e '.[plot]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo pyproject.toml
	@echo "Installing what the tests and linters need into $(VENV) ..."
	@$(PY) $(PIP_QUIET) -e '.[plot,dev]'
	@touch $@

$(TORCH_VENV)/.torch: pyproject.toml
	@echo "Installing PyTorch into $(TORCH_VENV), which is used to compare with only ..."
	@test -x $(TORCH_PY) || $(PYTHON) -m venv $(TORCH_VENV)
	@$(TORCH_PY) $(PIP_QUIET) -e '.[conformance]'
	@touch $@
