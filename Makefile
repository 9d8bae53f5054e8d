# Every entry point of the project. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp

.DEFAULT_GOAL := help
.PHONY: help setup system system-tests demo up test chaos check fmt bench lock clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  \033[1m%-8s\033[0m %s\n", $$1, $$2}'

setup: $(STAMP) ## install everything that Python needs into .venv

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "drawdown: Python 3.11 or newer is needed; name one with PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { echo "drawdown: 'python3 -m venv' does not work; on Debian: apt-get install python3-venv" >&2; exit 2; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@$(BIN)/python -m pipeline.warm
	@touch $@

system:
	@./deploy/install-system

system-tests:
	@./deploy/install-system tests

demo: setup system ## play the example on real servers, and check every figure
	@$(BIN)/drawdown demo

up: setup system ## start everything on this machine; Ctrl-C stops it
	@$(BIN)/drawdown up

test: setup system-tests ## all tests, on a real Kafka and ClickHouse
	@$(BIN)/python -m pytest

chaos: setup system ## many seeds of the chaos test: SEEDS=1,2,3 SECONDS_EACH=60
	@DRAWDOWN_CHAOS_SEEDS=$${SEEDS:-1,2,3} DRAWDOWN_CHAOS_SECONDS=$${SECONDS_EACH:-60} $(BIN)/python -m pytest tests/test_chaos.py

check: setup ## lint, format, types, import contract, compose file
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@if docker compose version >/dev/null 2>&1; then docker compose config --quiet; else echo "docker compose is not here: its file is checked by the tests only"; fi

fmt: setup ## format
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: setup system ## the README's measurements, on this machine
	@$(BIN)/drawdown bench

lock: ## renew requirements.lock
	@$(PYTHON) -m venv .lock-venv && .lock-venv/bin/pip install --quiet uv
	@.lock-venv/bin/uv pip compile --quiet --universal --no-emit-index-url --no-header --extra local --group dev pyproject.toml -o requirements.lock
	@rm -rf .lock-venv

clean: ## remove what was made here
	@rm -rf $(VENV) .drawdown *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
