# The doors of this project: `make demo`, `make test`, and what they are made of.

PYTHON ?= python3
# What `make test-pythons` tries; each Python but the default one has an environment of its own.
PYTHONS ?= python3.11 python3.12 python3.13
METER ?= auto
VENV := .venv$(if $(filter-out python3,$(PYTHON)),-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'))
BIN := $(VENV)/bin
LEDGER := out/ledger.db

# Where it is set, each process that a test starts would compile all that it imports anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo demo-chat test test-pythons docs bench bench-fleet peers lint types check tools format schema clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# One environment for everything (of a Python), pinned by constraints.txt so that two machines get the same.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "carbontrack needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,eval,postgres,live,collect,dev]'
	touch $@

demo: $(VENV)/.installed  ## train a small Llama 2 under carbontrack; METER=sim:a100x8 simulates GPUs
	$(BIN)/python -m llama_train prepare --corpus pydoc --out out/data
	CARBONTRACK_DB=$(LEDGER) $(BIN)/carbontrack run --name llama2-demo --tag model=llama2-demo-chat --meter $(METER) -- \
		$(BIN)/python -m llama_train train --preset demo --data out/data --out out/llama2-demo --overwrite
	CARBONTRACK_DB=$(LEDGER) $(BIN)/carbontrack table llama2-demo
	CARBONTRACK_DB=$(LEDGER) $(BIN)/carbontrack plot llama2-demo --out out/llama2-demo.png

# Each stage of Llama 2-Chat as a run of its own; the rule of llama_train/demo.py stands in for people.
CHAT := out/chat
STAGE = CARBONTRACK_DB=$(LEDGER) $(BIN)/carbontrack run --tag model=llama2-demo-chat --meter $(METER)
LLAMA := $(BIN)/python -m llama_train
AS_DEMO := --preset chat-demo --overwrite
# On models this small a second thread mostly waits for the first.
demo-chat: export OMP_NUM_THREADS ?= 1
demo-chat: $(VENV)/.installed  ## make the demo's model a chat model, stage by stage, each joule counted
	@test -e out/llama2-demo/checkpoints/latest || $(MAKE) --no-print-directory demo
	mkdir -p $(CHAT)
	$(BIN)/python -m llama_train.demo chats $(CHAT)/chats.jsonl
	$(STAGE) --name chat-1-sft -- $(LLAMA) finetune --from out/llama2-demo --data $(CHAT)/chats.jsonl --out $(CHAT)/sft $(AS_DEMO)
	$(BIN)/python -m llama_train.demo pairs --from $(CHAT)/sft --data $(CHAT)/chats.jsonl --out $(CHAT)/pairs.jsonl
	$(STAGE) --name chat-2-reward -- $(LLAMA) reward --from $(CHAT)/sft --data $(CHAT)/pairs.jsonl --out $(CHAT)/rm $(AS_DEMO)
	$(STAGE) --name chat-3-rejection -- $(LLAMA) align --method rejection --from $(CHAT)/sft --reward $(CHAT)/rm --out $(CHAT)/rs $(AS_DEMO)
	$(STAGE) --name chat-4-ppo -- $(LLAMA) align --method ppo --from $(CHAT)/rs --reward $(CHAT)/rm --out $(CHAT)/chat $(AS_DEMO)
	CARBONTRACK_DB=$(LEDGER) $(BIN)/carbontrack table --by name --tag model=llama2-demo-chat
	CARBONTRACK_DB=$(LEDGER) $(BIN)/carbontrack table --by name --by phase --tag model=llama2-demo-chat
	$(BIN)/python -m llama_train.demo judge $(CHAT)/sft $(CHAT)/rs $(CHAT)/chat --data $(CHAT)/chats.jsonl
	CARBONTRACK_DB=$(LEDGER) $(BIN)/python -m llama_train.demo plot --rejection $(CHAT)/rs --ppo $(CHAT)/chat \
		--tag model=llama2-demo-chat --out $(CHAT)/stages.png

test: lint types check  ## all checks and tests

test-pythons:  ## all of that on each of $(PYTHONS), one after the other
	@failed=; for python in $(PYTHONS); do \
		echo "== $$python"; $(MAKE) --no-print-directory test PYTHON=$$python || failed="$$failed $$python"; \
	done; test -z "$$failed" || { echo "make test fails on:$$failed" >&2; exit 1; }

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

# More workers than cores: many tests wait for a recorder or a collector, and others compute meanwhile.
check: $(VENV)/.installed tools
	$(BIN)/pytest --numprocesses 6 --dist worksteal

# A browser, LaTeX, a C compiler and PostgreSQL's server: Debian's, where we may install them.
tools: $(VENV)/.installed
	@$(BIN)/python -m tests.fixtures.tools

# The peers live in environments of their own; what they pull in must not meet our versions. Where
# they cannot be installed, carbontrack is measured alone.
peers: $(VENV)/.installed
	@for one in peers trainers; do \
		test -e out/bench/$$one/.installed || { $(PYTHON) -m venv out/bench/$$one && \
		out/bench/$$one/bin/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/$$one.txt && \
		touch out/bench/$$one/.installed; } || echo "The $$one of benchmarks/$$one.txt cannot be installed here."; done

bench: peers  ## measure side by side with the peers; QUESTIONS=kill for one
	$(BIN)/python -m benchmarks $(QUESTIONS)

bench-fleet: $(VENV)/.installed  ## measure a team's ledger under a fleet
	$(BIN)/python -m benchmarks fleet fleet_load fleet_month

docs: $(VENV)/.installed  ## write docs/commands.md from the commands
	$(BIN)/python -m tests.fixtures.reference

schema: $(VENV)/.installed  ## write schema.sql from the migrations
	$(BIN)/python -c 'from carbontrack.ledger.migrations import schema_sql; print(schema_sql())' > carbontrack/ledger/schema.sql

format: $(VENV)/.installed  ## let ruff rewrite
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what was made here
	rm -rf .venv .venv-* out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
