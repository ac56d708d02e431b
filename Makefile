# Needs make and Python 3.11, 3.12 or 3.13. `make help` shows what there is.
#   PYTHON=python3.12   uses that Python; otherwise the newest that fits
#   EXTRA=cpu|gpu       which vLLM; otherwise by whether there is an NVIDIA GPU
#   ARGS="--flag ..."   goes on to the app or to pytest

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run install test check model clean

SETUP := PYTHON="$(PYTHON)" sh install/setup.sh --extra "$(EXTRA)"
VENV := .venv/bin/python

help: ## show this list
	@sed -n 's/^\([a-z]*\): ## /  make \1\t/p' Makefile

run: ## set up if needed, then start the app; flags: ARGS="--port 8000"
	@$(SETUP)
	@exec $(VENV) app.py $(ARGS)

install: ## set up only
	@$(SETUP)

test: ## set up with Chromium, then run all tests; one file: ARGS=tests/unit/test_install.py
	@$(SETUP) --test --browser
	$(VENV) -m pytest $(ARGS)

check: ## style and types
	@$(SETUP) --test
	$(VENV) -m ruff check .
	$(VENV) -m ruff format --check .
	$(VENV) -m mypy

model: ## train the demo model anew on a GPU, then write it to assets
	@$(SETUP)
	$(VENV) -m training.train --compile --minutes 10
	$(VENV) -m training.export

clean: ## remove .venv and all caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache test-results build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
