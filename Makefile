# `make run` and `make test` need make and Python 3.11 or newer, nothing else: they make .venv and install into it.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# A command that is on the PATH may still not run (version managers put placeholders there), so each one is tried.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$python; break; fi; done)

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help run example-http test lint check bench docs clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS='|' read -r name text; do \
		printf '  make %-14s %s\n' "$$name" "$$text"; done

run: $(VENV)/.installed ## Run the quickstart job (configs/quickstart.yaml)
	$(BIN)/batchrun run configs/quickstart.yaml

example-http: $(VENV)/.installed ## Run a job against a small HTTP service that the example starts itself
	$(BIN)/python configs/http_example.py

test: $(VENV)/.installed-test ## Run all tests, three files at once; arguments for pytest instead: make test ARGS="-k resume"
	$(BIN)/python -m pytest $(or $(ARGS),--numprocesses 3 --dist loadfile)

lint: $(VENV)/.installed-lint ## Check style, format, types and which room imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict batchrun configs $(wildcard tests/typing)
	$(BIN)/lint-imports --no-logo

check: lint test ## Everything continuous integration runs

bench: $(VENV)/.installed-test ## Measure speed and memory: dispatch against a hand-written loop, batching, waiting, processes, peak memory, journal, Python workflows
	$(BIN)/python benchmarks/dispatch.py
	$(BIN)/python benchmarks/batching.py
	$(BIN)/python benchmarks/waiting.py
	$(BIN)/python benchmarks/processes.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/durability.py
	$(BIN)/python benchmarks/workflows.py

docs: $(VENV)/.installed ## Write docs/reference/job-file.md from the code
	$(BIN)/python -c "from batchrun.config import reference_page; print(reference_page(), end='')" > docs/reference/job-file.md

clean: ## Remove the environment, caches and build output; results in runs/ stay
	rm -rf $(VENV) build dist *.egg-info .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp says what was installed and when; a change of pyproject.toml or constraints.txt installs anew.
$(VENV)/.created:
	@test -n "$(PYTHON)" || { echo "batchrun needs Python 3.11 or newer: install it, or name it with make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/.created
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-test $(VENV)/.installed-lint: $(VENV)/.installed-%: pyproject.toml constraints.txt | $(VENV)/.created
	$(INSTALL) --editable '.[$*]'
	@touch $@
