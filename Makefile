# Everything runs in one environment, .venv, with the exact versions of constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help setup run test test-slow test-all check format clean

help:
	@echo "make run        set up, and run the default training (CPU, no network but the package registry)"
	@echo "make test       set up, and run the tests"
	@echo "make test-slow  the tests that take longer"
	@echo "make check      lint, types, import contract"
	@echo "make format     rewrite the sources in the project's style"
	@echo "make clean      remove the environment and caches"

setup: $(VENV)/.complete

$(VENV)/.complete: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

run: setup
	$(BIN)/python -m ift_lightning.train

test: setup
	$(BIN)/python -m pytest -m "not slow"

test-slow: setup
	$(BIN)/python -m pytest -m slow

check: setup
	$(BIN)/ruff check ift_lightning tests experiments
	$(BIN)/ruff format --check ift_lightning tests experiments
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix ift_lightning tests experiments
	$(BIN)/ruff format ift_lightning tests experiments

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
