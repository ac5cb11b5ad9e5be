# Every command a developer needs; `make help` lists them. The only things that must be there are Python >= 3.11, git and make.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
UV := $(BIN)/uv
# The tools look for each other on PATH (the proto plugins, Node), and write no caches next to the sources of others.
export PATH := $(CURDIR)/$(BIN):$(PATH)

PROTOS := $(shell find proto -name '*.proto')
IMAGE := build/image.binpb
BASELINE := proto/baseline.binpb
SDK := $(wildcard clients/python/pyproject.toml)
LOCK_OPTIONS := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
    --custom-compile-command "make lock"

# Tests by what they need. `test-quick` leaves out what starts a yard.
QUICK_TESTS := tests/unit tests/store
TEST_OPTIONS ?=
ARGS ?=

## Run

.PHONY: up
up: setup  ## run the yard in the foreground (ARGS="--port 9000" passes options on)
	@exec $(BIN)/codeyard up $(ARGS)

## Set up

.PHONY: setup
setup: $(VENV)/stamp-project  ## make .venv with everything locked, the generated code, and .venv/bin/codeyard
	@:

$(VENV)/stamp-python: tools/setup_venv.sh requirements-bootstrap.lock
	@tools/setup_venv.sh $(VENV)
	@touch $@

$(VENV)/stamp-packages: requirements.lock $(VENV)/stamp-python
	@echo "setup: packages"
	@$(UV) pip install --quiet --python $(PY) --require-hashes --requirement requirements.lock
	@touch $@

$(IMAGE): tools/gen_protos.py $(PROTOS) $(VENV)/stamp-packages
	@echo "setup: generated code"
	@$(PY) tools/gen_protos.py
	@touch $@

gateway/codeyard_gateway/image.binpb: $(IMAGE)
	@cp $< $@

$(VENV)/stamp-project: pyproject.toml $(SDK) $(VENV)/stamp-packages | gateway/codeyard_gateway/image.binpb
	@echo "setup: codeyard"
	@$(UV) pip install --quiet --python $(PY) --no-deps --no-build-isolation --editable . $(if $(SDK),--editable clients/python)
	@touch $@

.PHONY: lock
lock: $(VENV)/stamp-python | build  ## renew the locked versions within pyproject.toml (ARGS=--upgrade takes the newest)
	@$(UV) pip compile $(LOCK_OPTIONS) $(ARGS) --group dev pyproject.toml --output-file requirements.lock
	@echo uv | $(UV) pip compile $(LOCK_OPTIONS) --no-annotate --constraint requirements.lock - --output-file build/bootstrap.lock
	@# Only a changed one, because it makes .venv anew.
	@cmp -s build/bootstrap.lock requirements-bootstrap.lock || cp build/bootstrap.lock requirements-bootstrap.lock

build:
	@mkdir -p build

## Generate

.PHONY: gen
gen: setup  ## renew every committed generated file
	@$(PY) tools/gen_protos.py --golden
	@cp $(IMAGE) gateway/codeyard_gateway/image.binpb
	@$(PY) -m codeyard_gateway compile --golden
	@$(PY) -m codeyard_server.settings > docs/settings.md
	@$(PY) -m tests.support.schema
	@$(PY) tools/gen_sdk.py python

.PHONY: baseline
baseline: $(IMAGE)  ## make today's API the one that later changes must not break (at a release)
	@$(BIN)/buf build $(IMAGE) --exclude-source-info --output $(BASELINE)

## Check

.PHONY: lint
lint: setup  ## style, proto rules, breaking changes, import directions, sizes
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "lint: make format"; exit 1; }
	@$(BIN)/buf lint $(IMAGE) --path codeyard
	@$(BIN)/buf breaking $(IMAGE) --against $(BASELINE) --path codeyard
	@$(BIN)/lint-imports
	@$(PY) tools/check_sizes.py

.PHONY: format
format: setup  ## bring the Python files into their form
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

.PHONY: types
types: setup  ## mypy --strict
	@$(BIN)/mypy

.PHONY: check-gen
check-gen: setup  ## fail when a committed generated file is not what `make gen` writes
	@$(PY) tools/check_generated.py

## Test

.PHONY: test-parts
test-parts: setup  ## install the real parts of the tests (MinIO, npm servers, Chromium), outside the repository
	@$(PY) tools/real_parts.py || echo "test-parts: some parts are missing; the tests that need them will fail" >&2

.PHONY: test
test: setup lint types check-gen test-parts  ## everything
	@$(BIN)/pytest $(TEST_OPTIONS) -m "not soak" --durations 10

.PHONY: test-quick
test-quick: setup  ## unit and store tests: a minute
	@$(BIN)/pytest $(TEST_OPTIONS) -m "not soak" $(QUICK_TESTS)

.PHONY: soak
soak: setup test-parts  ## the long runs: chaos and streams for minutes
	@$(BIN)/pytest $(TEST_OPTIONS) -m soak

.PHONY: bench
bench: setup  ## measure this yard and its peers, and print the table of docs/benchmarks.md
	@$(PY) -m tests.bench $(ARGS)

.PHONY: clean
clean:  ## remove what was built (the cache of real parts stays)
	@rm -rf $(VENV) build gateway/codeyard_gateway/image.binpb

.PHONY: help
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
