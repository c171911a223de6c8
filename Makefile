# The doors of this project: `make demo`, `make test`, and what they are made of.

PYTHON ?= python3
METER ?= auto
VENV := .venv
BIN := $(VENV)/bin
LEDGER := out/ledger.db

.PHONY: help demo test docs bench peers lint types check browser tex format clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# One environment for everything, pinned by constraints.txt so that two machines get the same.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "carbontrack needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,postgres,live,dev]'
	touch $@

demo: $(VENV)/.installed  ## train a small Llama 2 under carbontrack; METER=sim:a100x8 simulates GPUs
	$(BIN)/python -m llama_train prepare --corpus pydoc --out out/data
	CARBONTRACK_DB=$(LEDGER) $(BIN)/carbontrack run --name llama2-demo --meter $(METER) -- \
		$(BIN)/python -m llama_train train --preset demo --data out/data --out out/llama2-demo --overwrite
	CARBONTRACK_DB=$(LEDGER) $(BIN)/carbontrack table llama2-demo
	CARBONTRACK_DB=$(LEDGER) $(BIN)/carbontrack plot llama2-demo --out out/llama2-demo.png

test: lint types check  ## all checks and tests

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

# What computes goes first, one worker a core; recording, which mostly waits, has the machine alone.
check: $(VENV)/.installed browser tex
	$(BIN)/pytest --numprocesses 2 --dist loadfile --ignore tests/record
	$(BIN)/pytest --numprocesses 3 --dist loadfile tests/record

# The live page is tested in a real browser: Debian's, where we may install it.
browser:
	@command -v chromium chromedriver >/dev/null || \
		{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium chromium-driver >/dev/null; } || \
		echo "Chromium is not installed and cannot be here: its tests will be skipped."

# A LaTeX table is tried in a real pdflatex: half a minute and 50 MB, once.
tex:
	@command -v pdflatex >/dev/null || \
		{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		texlive-latex-base texlive-latex-recommended >/dev/null; } || \
		echo "pdflatex is not installed and cannot be here: its test will be skipped."

# The peers live in environments of their own; what they pull in must not meet our versions. Where
# they cannot be installed, carbontrack is measured alone.
peers: $(VENV)/.installed
	@for one in peers trainers; do \
		test -e out/bench/$$one/.installed || { $(PYTHON) -m venv out/bench/$$one && \
		out/bench/$$one/bin/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/$$one.txt && \
		touch out/bench/$$one/.installed; } || echo "The $$one of benchmarks/$$one.txt cannot be installed here."; done

bench: peers  ## measure side by side with the peers; QUESTIONS=kill for one
	$(BIN)/python -m benchmarks $(QUESTIONS)

docs: $(VENV)/.installed  ## write docs/commands.md from the commands
	$(BIN)/python -m tests.fixtures.reference

format: $(VENV)/.installed  ## let ruff rewrite
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what was made here
	rm -rf $(VENV) out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
