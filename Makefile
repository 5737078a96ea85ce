# The only commands to remember. Everything is installed into .venv, pinned by constraints.txt.
#
#   make demo    a minute's tour: real servers, the sample calls, a table of their emotions
#   make serve   the one-machine stack until Ctrl-C
#   make bench   Warmline beside its peers on this machine, in a table and as JSON (25 minutes)
#   make test    the whole test suite
#   make chaos   thousands of jobs while everything is killed, and what came of them (10 minutes)
#   make check   ruff, format, mypy --strict, import-linter
#   make model   fetch and convert Emotion2Vec+ Large
#   make sbom    dist/sbom-*.json: what each part consists of, as CycloneDX; make licenses: docs/licenses.md anew
#   make hooks   git runs the quick checks before each commit
#
# TORCH chooses torch's build, e.g. make demo TORCH="torch==2.13.0+cpu" (README, "CPU or CUDA").

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo serve bench test chaos check format model samples constraints sbom licenses hooks clean

help:
	@sed -n 's/^#   //p' Makefile

# Installed anew when the pins, the dependencies or the choice of torch change.
INSTALLED := $(VENV)/.installed
$(INSTALLED): pyproject.toml constraints.txt deploy/make_venv.py
	@$(PYTHON) deploy/make_venv.py $(VENV) "$(PIP_INDEX_URL)"
	@echo "installing $(TORCH) and Warmline's dependencies into $(VENV) (a few minutes, once)"
	@# torch first and alone: its build is the user's choice, and nothing after it may change it.
	@$(PIP) "$(TORCH)"
	@$(PIP) --editable ".[api,worker,local,export,tracing]"
	@touch $@

INSTALLED_DEV := $(VENV)/.installed-dev
$(INSTALLED_DEV): $(INSTALLED)
	@$(PIP) --editable ".[api,worker,local,export,tracing,diarise,dev]"
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/warmline demo

serve: $(INSTALLED)
	@$(BIN)/warmline up

# BENCH are its options, e.g. make bench BENCH="--rows 1,5 --clips ../recordings"
bench: $(INSTALLED_DEV)
	@$(BIN)/python -m benchmarks $(BENCH)

test: $(INSTALLED_DEV)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# CHAOS are its options, e.g. make chaos CHAOS="--only storm --seed 7"
chaos: $(INSTALLED_DEV)
	@$(BIN)/python -m tests.chaos $(CHAOS)

check: $(INSTALLED_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED_DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

model: $(INSTALLED)
	@$(BIN)/warmline model pull large

samples: $(INSTALLED)
	$(BIN)/python samples/make_samples.py

constraints: $(INSTALLED_DEV)
	@$(BIN)/python -m pip freeze --exclude-editable | grep -v '^torch==' > .constraints.new
	@(sed -n '/^#/p' constraints.txt; cat .constraints.new) > .constraints.merged
	@mv .constraints.merged constraints.txt && rm .constraints.new

sbom: $(INSTALLED_DEV)
	@for part in api worker stack others; do \
	  $(BIN)/python deploy/make_sbom.py $$part dist/sbom-$$part.json && echo dist/sbom-$$part.json || exit 1; done

licenses: $(INSTALLED_DEV)
	$(BIN)/python deploy/make_licenses.py

hooks: $(INSTALLED_DEV)
	$(BIN)/pre-commit install

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
