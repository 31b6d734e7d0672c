# The only entry for people and CI. `make demo` and `make test` do their own set-up.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
AUDIT := $(VENV)/audit
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
APT := DEBIAN_FRONTEND=noninteractive apt-get

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-slow test-real test-fuzz test-cluster test-cluster-slow test-nodes soak walk audit bench
.PHONY: bench-gpu bench-quality check lint format types layers spelling clean

help: ## Say what each target does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## Make the virtual environment with the tested versions of everything

# A failed set-up leaves no .ready behind, so the next call finishes it. The tested set is compared with its hashes;
# torch's builds, and the CUDA packages that they bring, differ from machine to machine and have none.
$(READY): pyproject.toml constraints.txt requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "error: $(PYTHON) is older than 3.11; name a newer one with make PYTHON=python3.12"; exit 2; }
	@[ -x $(BIN)/python ] && $(BIN)/python -m pip --version >/dev/null 2>&1 \
	    || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV) >/dev/null 2>&1; } \
	    || { rm -rf $(VENV); echo "python3-venv is missing; installing it from Debian"; \
	         $(APT) update -qq && $(APT) install -y -qq python3-venv && $(PYTHON) -m venv $(VENV); }
	$(PIP) --require-hashes --no-deps -r requirements.lock
	$(PIP) -c constraints.txt torch
	$(PIP) -c constraints.txt --no-build-isolation -e '.[demo,dev]'
	@touch $@

demo: setup ## Train loss variants on sample photographs, compare them, promote the best (4 to 8 minutes)
	$(BIN)/r2d2 demo

# Two processes at a time, each with whole files: many tests wait for others that they have started.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=30

test: setup ## Run the tests
	$(PYTEST) -m "not real_size and not multinode and not soak and not slow"

test-slow: setup ## Run the tests of half a minute or more that rarely break
	$(PYTEST) -m "slow and not multinode"

test-real: setup ## Run the slow tests with networks and images of full size
	$(BIN)/python -m pytest -m real_size

test-all: setup ## Run the tests, the slow ones too, the fuzz tests for a minute, and the audit
	$(PYTEST) -m "not real_size and not multinode and not soak"
	$(MAKE) test-fuzz audit

test-fuzz: setup ## Run the fuzz tests of the readers of foreign bytes for about a minute
	FUZZ_EXAMPLES=400 $(BIN)/python -m pytest tests/fuzz

audit: setup ## Check the source by ruff's rules of security, and the tested set for known advisories where they can be had
	$(BIN)/ruff check --select S --ignore S101,S311 runner r2d2 evaluation search_spaces .ci
	@rm -rf $(AUDIT) && $(PYTHON) -m venv $(AUDIT)
	@{ timeout 60 $(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check pip-audit \
	    && timeout 60 $(AUDIT)/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip \
	        --progress-spinner off --format json --output $(AUDIT)/report.json; } >$(AUDIT)/log 2>&1 || true
	@$(BIN)/python .ci/audit.py $(AUDIT)/report.json $(AUDIT)/log

test-cluster: setup ## Run the tests of clusters of several nodes, kills and storms, all on this machine (45 minutes)
	$(BIN)/python -m pytest -m "multinode and not slow"

test-cluster-slow: setup ## Run those that CI has no time for: storms, MLflow away, missing workers (25 minutes)
	$(BIN)/python -m pytest -m "multinode and slow"

test-nodes: setup ## Run the quicker tests of clusters: sweeps handed to a head and two nodes, and the doctor
	$(BIN)/python -m pytest -m multinode tests/multinode/test_submission.py tests/multinode/test_doctor.py

soak: setup ## Disturb sweeps on a cluster for MINUTES=60 by random faults of SEED=0, and check what they end with
	SOAK_MINUTES=$(or $(MINUTES),60) SOAK_SEED=$(or $(SEED),0) $(BIN)/python -m pytest -s -m soak tests/soak

walk: setup ## Run the commands of the README on small inputs and compare with the recording; RECORD=1 records anew
	$(BIN)/python tests/walk/walk.py $(if $(RECORD),--record)

bench: setup ## Measure speed as ratios to bare arithmetic, into bench/results.json (10 minutes)
	$(BIN)/python -m bench

bench-gpu: setup ## Measure a GPU in twelve minutes: parity, speeds, training, faults; CALL=1 and CALL=2 are six each
	bash bench/gpu.sh $(or $(CALL),all)

bench-quality: setup ## Train for MINUTES=60 and show how good the network became, over minutes and pairs
	$(BIN)/python -m bench.quality --minutes $(or $(MINUTES),60)

check: lint types layers spelling ## Run all checks

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup
	$(BIN)/mypy

layers: setup
	$(BIN)/lint-imports

spelling: setup
	$(BIN)/codespell

clean: ## Remove the virtual environment and caches; .r2d2 with your runs stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info
