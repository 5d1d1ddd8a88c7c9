# Two commands do all the set-up on a machine with Python >= 3.11 and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

STUDY := study
BASES := 4

.PHONY: help demo study study-full browser test test-all lint benchmark clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "r1k needs Python 3.11 or newer: type  make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/builder: $(VENV)/made pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/dev: $(VENV)/builder
	$(BIN)/pip install --quiet --disable-pip-version-check 'torch==2.13.0'  # first, where a small CPU build is at hand
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,train,eval,review,ray]'
	@touch $@

demo: $(VENV)/builder  ## build r1k from the embedded bank, show its first row
	$(BIN)/r1k-build --source embedded --teacher embedded --limit 300 --tokenizer none --output demo/r1k --resume
	@cd demo && ../$(BIN)/python -c 'import json; from datasets import load_dataset; print("load_dataset(\"r1k\")[\"train\"][0] =", json.dumps(load_dataset("r1k")["train"][0], indent=2, ensure_ascii=False))'

$(VENV)/train: $(VENV)/builder
	$(BIN)/pip install --quiet --disable-pip-version-check 'torch==2.13.0'  # first, where a small CPU build is at hand
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[train]'
	@touch $@

study: $(VENV)/train  ## the paper's questions in miniature: about 20 minutes on two cores, resumable; see docs/study
	$(BIN)/r1k-build --source embedded --teacher embedded --limit 8000 --tokenizer none --output $(STUDY)/train --resume
	$(BIN)/r1k-build --source embedded --teacher embedded --limit 1200 --split heldout --tokenizer none --output $(STUDY)/heldout --resume
	$(BIN)/python -m r1k_train study --train $(STUDY)/train --heldout $(STUDY)/heldout --out $(STUDY) --bases $(BASES)

study-full:  ## the same with 12 bases, those of `make study` among them: about an hour
	$(MAKE) study BASES=12

lint: $(VENV)/dev  ## style, imports and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

browser:  ## a headless browser for the review page's tests, where this is root and has apt-get
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null; } || \
	echo "no browser is here and none could be installed: the tests of the review page will be skipped"

test: lint browser  ## lint, types and every test but the slow ones
	$(BIN)/pytest --numprocesses 2 --dist loadfile -m 'not slow'

test-all: lint browser  ## the slow ones too
	$(BIN)/pytest

benchmark: $(VENV)/dev  ## the builder beside bare loops (minutes)
	$(BIN)/python benchmarks/builder.py

clean:  ## remove what the commands above made
	rm -rf $(VENV) demo study .mypy_cache .ruff_cache .pytest_cache
