SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install run test chaos lint bench screenshots docs lock servers measuring clean

VENV := .venv
PYTHON ?= python3
INSTALLED := $(VENV)/.installed

help: ## this list; with INSTALL=no, verbs only name the system packages that they need
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

install: $(INSTALLED) ## .venv with everything pinned, and the command .venv/bin/emqx-im

$(INSTALLED): requirements-dev.lock pyproject.toml clients/python/pyproject.toml
	@PYTHON="$(PYTHON)" .ci/need python
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$$($(PYTHON) --version) is too old: Python 3.11 or newer is needed (make install PYTHON=…)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	$(VENV)/bin/python -m pip install --quiet --no-deps -e . -e clients/python
	@touch $@

run: install ## everything on this machine: broker, service, store
	$(VENV)/bin/emqx-im dev

# Before `install`, and with what that will ask for, so that everything missing is named at once.
servers:
	@PYTHON="$(PYTHON)" .ci/need servers clients $(if $(wildcard $(INSTALLED)),,python)

measuring:
	@PYTHON="$(PYTHON)" .ci/need servers bench $(if $(wildcard $(INSTALLED)),,python)

test: servers install ## all tests; ARGS=… goes to pytest
	@.ci/need-node $(VENV)
	$(VENV)/bin/pytest -n 3 --dist loadfile $(ARGS)

chaos: servers install ## a campaign of faults, an hour, written to docs/reliability.md; ARGS=… goes to it
	$(VENV)/bin/python -m tests.chaos $(ARGS)

lint: install ## ruff and mypy
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

bench: measuring install ## the benchmarks, half an hour, written to docs/benchmarks; ARGS=… goes to them
	$(VENV)/bin/python -m tests.bench $(ARGS)

screenshots: servers install ## docs/console: each page of the console at three widths
	@.ci/need fonts
	$(VENV)/bin/python -m tests.console_screenshots

docs: install ## compares docs/ with the code
	$(VENV)/bin/pytest tests/unit/test_docs.py

lock: install ## resolves the lock files anew from pyproject.toml and deploy/build.in
	$(VENV)/bin/python -m pip install --quiet uv
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --upgrade pyproject.toml -o requirements.lock
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --upgrade --all-extras pyproject.toml -o requirements-dev.lock
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --upgrade deploy/build.in -o deploy/build.lock

clean: ## removes what the other verbs made; the data of `make run` (.emqx-im) stays
	rm -rf clients/js/node_modules clients/js/build clients/js/dist clients/js/examples/chat/node_modules
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
