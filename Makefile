# Needs make and Python 3.11, 3.12 or 3.13. `make help` shows what there is.
#   PYTHON=python3.12   uses that Python; otherwise the newest that fits
#   EXTRA=cpu|gpu       which vLLM; otherwise by whether there is an NVIDIA GPU
#   ARGS="--flag ..."   goes on to the app or to pytest

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run remote install test check model clean

SETUP := PYTHON="$(PYTHON)" sh install/setup.sh --extra "$(EXTRA)"
VENV := .venv/bin/python

help: ## show this list
	@sed -n 's/^\([a-z]*\): ## /  make \1\t/p' Makefile

run: ## set up if needed, then start the app; flags: ARGS="--port 8000"
	@$(SETUP)
	@exec $(VENV) app.py $(ARGS)

remote: ## set up without an engine, then chat with the models of OPENAI_BASE_URL or ARGS="--base-url URL"
	@$(SETUP) --remote
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

model: ## train a demo model on a GPU from the packages in PACKAGES=folder; see training/SOURCES.md
	@$(SETUP)
	$(VENV) -m pip install --quiet resvg-py fonttools matplotlib
	$(VENV) -m training.pack "$(PACKAGES)"
	$(VENV) -m training.tokenizer
	$(VENV) -m training.train --compile --minutes 9 --schedule 0 0.34
	$(VENV) -m training.train --compile --minutes 9 --schedule 0.34 0.67 --resume training/build --seed 1
	$(VENV) -m training.train --compile --minutes 9 --schedule 0.67 1 --resume training/build --seed 2
	$(VENV) -m training.export
	$(VENV) -m training.evaluate --folder training/build/model --log training/build/answers.jsonl
	$(VENV) -m training.report --answers training/build/answers.jsonl --out training/build

clean: ## remove .venv and all caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache test-results build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
