# Everything works from a bare clone with Python 3.11+ and make. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Its contents say for which checkout and which locks the environment was made.
STAMP := $(VENV)/.outreach-ready
ARGS ?=
# All tests: mostly they wait, so two files at a time. Each worker has servers of its own.
PARALLEL := --numprocesses 2 --dist loadfile
SHELL := /bin/sh
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# An environment that was moved or copied points at another place: made again, as is one without its Python.
STALE := $(shell [ -x $(BIN)/python ] && $(BIN)/python -c '' 2>/dev/null && [ "$$(cat $(STAMP) 2>/dev/null)" = "$(CURDIR)" ] || echo stale)

.DEFAULT_GOAL := help
.PHONY: help setup demo up test simulate chaos soak check format protos docs bench lock clean stale

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'
	@printf '%s\n' '' '  ARGS="..." is handed on, for example: make test ARGS="tests/unit -x"'

ifeq ($(STALE),stale)
$(STAMP): stale
endif
$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Outreach needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true)." >&2; \
	  echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up $(VENV) (once; it takes a minute or two) ..."
	@[ -x $(BIN)/python ] && [ "$$(cat $(VENV)/.outreach-home 2>/dev/null)" = "$(CURDIR)" ] \
	  && $(BIN)/python -c '' 2>/dev/null || { \
	  rm -rf $(VENV) && $(PYTHON) -m venv $(VENV) && echo "$(CURDIR)" > $(VENV)/.outreach-home; }
	@$(BIN)/python -m pip install -qq --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .
	@echo "$(CURDIR)" > $@

setup: $(STAMP) ## Make the environment (every other target does it when needed)
	@:

demo: $(STAMP) ## Run an SMS and an email campaign on this machine and account for every message
	@$(BIN)/outreach demo $(ARGS)

up: $(STAMP) ## Start the whole stack on this machine; Ctrl-C stops it
	@$(BIN)/outreach up $(ARGS)

test: $(STAMP) ## Run all tests
	@$(BIN)/python -m pytest $(if $(ARGS),$(ARGS),$(PARALLEL))

SEEDS ?= 1-20
MINUTES ?= 60

simulate: $(STAMP) ## Run the pure parts under virtual time and a faulty network (SEEDS=1-10000)
	@$(BIN)/python -m simulation $(SEEDS) $(ARGS)

chaos: $(STAMP) ## Run campaigns on real processes under faults and check the history (SEEDS=1-200)
	@$(BIN)/python -m chaos run $(SEEDS) $(ARGS)

soak: $(STAMP) ## Send for MINUTES with a fault every minute, and watch for leaks
	@$(BIN)/python -m chaos soak $(MINUTES) $(ARGS)

check: $(STAMP) ## Lint, types, import rules, and drift of generated code and documents
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m scripts.protos check
	@$(BIN)/python -m scripts.docs check

format: $(STAMP) ## Format the code and apply the safe fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

protos: $(STAMP) ## Generate the code of protos/ anew
	@$(BIN)/python -m scripts.protos generate

docs: $(STAMP) ## Generate the tables of docs/ anew
	@$(BIN)/python -m scripts.docs generate

bench: $(STAMP) ## Measure import, sending and memory
	@$(BIN)/python -m bench $(ARGS)

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate

lock: $(STAMP) ## Resolve pyproject.toml anew into requirements/ (UPGRADE=1 takes newer versions)
	@$(LOCK) $(if $(UPGRADE),--upgrade) -o requirements/runtime.txt pyproject.toml
	@$(LOCK) $(if $(UPGRADE),--upgrade) --extra dev -c requirements/runtime.txt -o requirements/dev.txt pyproject.toml

clean: ## Remove the environment, caches and builds
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .outreach
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
