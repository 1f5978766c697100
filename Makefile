# Two commands: `make demo` does the main job once, `make test` proves it. Both set up first.

# That of .venv, else the newest one that runs: pyenv has commands for versions that are not active.
PYTHON ?= $(shell for python in $(BIN)/python python3.14 python3.13 python3.12 python3.11 python3; do \
	{ $$python -c ""; } 2>/dev/null && command -v $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help demo test verify lint lab release grade bench setup bubblewrap

help:
	@echo "make demo     set up, train the reference of deliverable 1, grade a class of six"
	@echo "make test     set up, check the style and the types, run the tests"
	@echo "make verify   train every reference, judge every mutant, run every test (within the hour)"
	@echo "make lab      open the notebooks in JupyterLab, formgrader included"
	@echo "make release  solutions/ -> notebooks/ and the students' zip"
	@echo "make grade    grade what lies in course/submitted/"
	@echo "make bench    measure, into benchmarks/results/"

setup: $(READY) bubblewrap

# A Python that is asked for (make PYTHON=...) takes the place of another one in .venv.
ifneq ($(origin PYTHON),file)
ifneq ($(shell { $(PYTHON) --version; } 2>/dev/null),$(shell { $(BIN)/python --version; } 2>/dev/null))
$(shell rm -rf $(VENV))
endif
endif

# A stamp, so that the second run does not set up again.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null \
		|| { echo "Latent Lab needs Python 3.11 to 3.14: make PYTHON=/path/to/python3.13 ..."; exit 1; }
	@echo "==> Setting up $(VENV) with $$($(PYTHON) --version), $(PYTHON) (a few minutes, 6 GB; once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

# The sandbox. Installed where we may; without it grading still runs, at a lower level and saying so.
bubblewrap:
	@command -v bwrap >/dev/null || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "==> Installing bubblewrap (the sandbox)"; \
			apt-get update -qq && apt-get install -y -qq bubblewrap >/dev/null; \
		else \
			echo "==> bubblewrap is missing; ask your administrator to install it"; \
		fi; } || echo "==> bubblewrap could not be installed"

demo: setup
	@$(BIN)/autograder demo

test: setup lint
	@echo "==> Running the tests"
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "not long"

# One thread each: two that compute side by side, with two threads each, wait for each other.
verify: export OMP_NUM_THREADS := 1
verify: setup lint
	@echo "==> Training every reference at full thresholds, and judging it"
	@$(BIN)/python benchmarks/references.py
	@echo "==> Every sixth wrong and right solution, through the judge"
	@$(BIN)/python -m autograder.rubric --judge --quiet --share 6
	@echo "==> All other tests"
	@$(BIN)/python -m pytest -n 2 --dist worksteal --hypothesis-profile=long

lint: setup
	@echo "==> Checking style and types"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

lab: setup
	@$(BIN)/jupyter lab --notebook-dir=.

release: setup
	@$(BIN)/autograder release

grade: setup
	@$(BIN)/autograder grade

bench: setup
	@$(BIN)/python benchmarks/loader.py
	@$(BIN)/python benchmarks/judging.py
