# Two commands on a fresh Debian 12 with git, make and Python 3.11 or later:
#     make demo    stage a small lab, look at it, take it down, prove that nothing is left
#     make test    run every test
# The rest is for people who change hostlab. PYTHON names the interpreter that .venv is made with.

PYTHON ?= python3
BIN := .venv/bin
# What `make test PYTEST="-k checks"` adds, and how many tests run at once; WORKERS=0 is one by one.
PYTEST ?=
WORKERS ?= 3
# How long the campaigns are; HOSTLAB_SEED repeats one of kills, or an input of job files.
KILLS ?= 300
CONNECTIONS ?= 10000
LOCKOUTS ?= 1000
SWITCHES ?= 200
FUZZ ?= 100000
CUTS ?= 1000
PROPERTIES ?= 2000
MODEL ?= 10000
RULESETS ?= 1000
PAIRS ?= 500
RUNS ?= 10
LABS ?= 1

.PHONY: demo demo-anycast test check bench failovers kills fuzz model rulesets docs dev clean

demo:
	@$(PYTHON) tools/setup.py demo
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh tools/demo.sh

# Real routers and web servers: BIRD, FRR, ExaBGP and nginx are installed where that may be done.
demo-anycast:
	@$(PYTHON) tools/setup.py anycast
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh tools/demo-anycast.sh

test: dev
	@$(BIN)/python -m pytest -n $(WORKERS) $(PYTEST)

check: dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/pages.py --check
	$(BIN)/python -m pytest -n $(WORKERS) -q -m unit

bench: dev
	$(BIN)/python -m bench --write

# The faults of docs/failover.md, RUNS times each; of each example LABS are up at once.
failovers: dev
	$(BIN)/python -m bench.failovers --runs $(RUNS) --labs $(LABS) --write

# The long campaigns; short ones are part of `make test`.
kills: dev
	HOSTLAB_KILLS=$(KILLS) HOSTLAB_CONNECTIONS=$(CONNECTIONS) HOSTLAB_LOCKOUTS=$(LOCKOUTS) \
	    HOSTLAB_SWITCHES=$(SWITCHES) $(BIN)/python -m pytest \
	    tests/netns/lab/test_kills.py tests/netns/init/test_supervisor_kills.py \
	    tests/netns/init/test_socket_kills.py tests/netns/firewall/test_lockouts.py \
	    tests/netns/firewall/test_switch_over.py --timeout=0 -s

fuzz: dev
	HOSTLAB_FUZZ=$(FUZZ) $(BIN)/python -m pytest tests/unit/spec/test_fuzz.py \
	    tests/unit/spec/test_upstart_fuzz.py --timeout=0
	HOSTLAB_CORPUS_CUTS=$(CUTS) $(BIN)/python -m pytest tests/netns/firewall/test_corpus.py \
	    -k traceback --timeout=0
	HOSTLAB_EXAMPLES=$(PROPERTIES) HOSTLAB_FUZZ=$(PROPERTIES) $(BIN)/python -m pytest tests/unit \
	    -m hypothesis --ignore=tests/unit/spec/test_fuzz.py --timeout=0

# Random jobs and events, MODEL runs of 40 steps each.
model: dev
	HOSTLAB_MODEL=$(MODEL) $(BIN)/python -m pytest tests/unit/jobs/test_jobs_model.py --timeout=0

# Random packet filters, each asked 300 packets, and pairs of them that `diff` compares, held
# against a model; PAIRS=107:108 repeats one pair.
rulesets: dev
	HOSTLAB_RULESETS=$(RULESETS) HOSTLAB_PAIRS=$(PAIRS) $(BIN)/python -m pytest \
	    tests/netns/firewall/test_prober_oracles.py \
	    tests/netns/firewall/test_difference_campaign.py -k random --timeout=0 -s

# The pages that are made from the code.
docs: dev
	$(BIN)/python tools/pages.py

dev:
	@$(PYTHON) tools/setup.py dev

clean:
	rm -rf .venv .venv-bench build src/*.egg-info .mypy_cache .ruff_cache .pytest_cache \
	    .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
