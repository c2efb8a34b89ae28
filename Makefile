# The same commands for people and for CI. `make` alone lists them.
# Stamp files in .venv remember what is installed, so a second call starts at once.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip --disable-pip-version-check --quiet install --no-warn-script-location

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-gpu bench soak check

help: ## list these commands
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 16

setup: $(VENV)/.dev ## install the package and everything the tests and checks need into .venv

demo: $(VENV)/.base ## install the package, enlarge the sample clip x4, say where the result is and what was measured
	@$(BIN)/python pipelines/demo.py

# Files of tests are shared among processes of one thread each, in their order, as few tests can take long; every process holds torch, so
# four are enough.
test: $(VENV)/.dev ## install what the tests need and run them
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-gpu: $(VENV)/.dev ## run the tests that need a CUDA device; without one they fail
	@GTASR_REQUIRE_GPU=1 $(BIN)/python -m pytest -m gpu

bench: $(VENV)/.base ## measure speed, stage by stage, and add it to benchmarks/results/bench.jsonl
	@$(BIN)/gtasr-video bench --compact --out benchmarks/results/bench.jsonl

soak: $(VENV)/.dev ## hours: kills, spoiled files, a million frames, servers that die and lose packets; prints figures
	@GTASR_SOAK=1 nice -n 19 $(BIN)/python -m pytest -s tests/soak tests/media/streams/test_recovery.py

check: $(VENV)/.dev ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A half-made environment would be mistaken for a whole one: remove it if creating it fails.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or \
	    sys.exit(f"Python 3.11 or newer is needed, $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=python3.11 ...")'
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@touch $@

$(VENV)/.base: $(VENV)/.created pyproject.toml
	@echo "installing the package into $(VENV) (torch is large: minutes on a slow line)"
	@$(PIP_INSTALL) --editable .
	@if ! $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then \
	    echo "no CUDA GPU here: installing OpenVINO, which is faster on a CPU"; \
	    $(PIP_INSTALL) --editable '.[cpu]'; fi
	@touch $@

$(VENV)/.dev: $(VENV)/.base pyproject.toml
	@echo "installing what tests and checks need"
	@$(PIP_INSTALL) --editable '.[dev]'
	@touch $@
