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

# Published clients of remote systems, and a server of an object store, whose pins exclude one another: an environment for each list of pins.
CLIENTS := $(patsubst tests/clients/%.txt,$(VENV)/clients/%/.installed,$(wildcard tests/clients/*.txt))

# A server of another object store, which needs node and npm.
NPM ?= $(shell command -v npm 2>/dev/null)
AZURITE := $(VENV)/clients/azurite/.installed

# Flux needs Python 3.12 or newer, batchrun does not: its tests run in an environment of their own. Version managers keep
# interpreters where they are not on the PATH.
FLUX_PYTHON ?= $(shell for python in python3.12 python3.13 python3.14 python3 $${PYENV_ROOT:-$$HOME/.pyenv}/versions/3.1[2-9].*/bin/python3; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; then echo $$python; break; fi; done)
FLUX := $(VENV)/flux

.PHONY: help run example-http test test-flux lint check bench notebook docs clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS='|' read -r name text; do \
		printf '  make %-14s %s\n' "$$name" "$$text"; done

run: $(VENV)/.installed ## Run the quickstart job (configs/quickstart.yaml)
	$(BIN)/batchrun run configs/quickstart.yaml

example-http: $(VENV)/.installed ## Run a job against a small HTTP service that the example starts itself
	$(BIN)/python configs/http_example.py

test: $(VENV)/.installed-test $(CLIENTS) ## Run all tests, three files at once; arguments for pytest instead: make test ARGS="-k resume"
	@$(if $(ARGS),,$(MAKE) test-flux)
	@if test -n "$(NPM)"; then $(MAKE) $(AZURITE); else \
		echo "NOT TESTED: az:// addresses. Their server needs node and npm: apt-get install nodejs npm" >&2; fi
	@$(BIN)/python -m compileall -q batchrun # hundreds of processes import it, and where Python writes no bytecode each would compile it
	$(BIN)/python -m pytest $(or $(ARGS),--numprocesses 3 --dist loadfile --ignore tests/flux)

# Compiling all of its packages takes half as long as installing them: only what is imported is compiled, once.
test-flux: export PYTHONDONTWRITEBYTECODE :=
test-flux: export PYTHONPYCACHEPREFIX := $(CURDIR)/$(FLUX)/compiled
test-flux: ## Run the tests of the flux node alone, with Python 3.12 or newer
	@if test -n "$(FLUX_PYTHON)"; then $(MAKE) $(FLUX)/.installed && $(FLUX)/bin/python -m pytest tests/flux; else \
		echo "NOT TESTED: the flux node. Its library needs Python 3.12 or newer: install it, or name it with make FLUX_PYTHON=/path/to/python" >&2; fi

lint: $(VENV)/.installed-lint ## Check style, format, types and which room imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict batchrun benchmarks configs $(wildcard tests/typing)
	$(BIN)/lint-imports --no-logo

check: lint test ## Everything continuous integration runs

bench: $(VENV)/.installed-bench ## Measure speed and memory beside hand-written programs and other tools: make bench ARGS="--only dispatch --peers daft"
	$(BIN)/python -m benchmarks $(ARGS)

notebook: $(VENV)/.installed-test ## Run docs/notebook.ipynb and write its outputs anew
	$(BIN)/python -m tests.docs.notebooks

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

$(VENV)/.installed-test $(VENV)/.installed-lint $(VENV)/.installed-bench: $(VENV)/.installed-%: pyproject.toml constraints.txt | $(VENV)/.created
	$(INSTALL) --editable '.[$*]'
	@touch $@

# The lists are complete, so nothing is resolved; and one pip serves all environments, which saves most of the time.
$(CLIENTS): $(VENV)/clients/%/.installed: tests/clients/%.txt | $(VENV)/.created
	$(BIN)/python -m venv --without-pip --clear $(@D)
	$(BIN)/python -m pip --python $(@D)/bin/python install --quiet --disable-pip-version-check --no-deps --no-compile --requirement $<
	@touch $@

# Nothing of the packages is run while they are installed. npm keeps what it has once fetched.
$(AZURITE): $(wildcard tests/clients/azurite/*.json tests/clients/azurite/*/*) | $(VENV)/.created
	rm -rf $(@D)
	mkdir -p $(VENV)/clients
	cp -r tests/clients/azurite $(@D)
	cd $(@D) && $(NPM) install --loglevel error --no-audit --no-fund --no-package-lock --omit=dev --omit=optional --ignore-scripts --prefer-offline
	@touch $@

$(FLUX)/.installed: pyproject.toml constraints.txt | $(VENV)/.created
	$(FLUX_PYTHON) -m venv --without-pip --clear $(FLUX)
	$(BIN)/python -m pip --python $(FLUX)/bin/python install --quiet --disable-pip-version-check --no-compile \
		--constraint constraints.txt --editable '.[flux]' hypothesis pytest pytest-timeout
	@touch $@
