# What can be done here; `make` alone lists it.
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
ENV := .venv/.complete
SERVICES_ENV := .venv/.services
# the extras that only some sweeps, and the tests against real services, need
SERVICES := joblib ray slurm server services
# the tests on Slurm and Ray
ENGINES := $(addprefix tests/services/test_,launchers.py services.py other_environment.py)
COMPILE = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --upgrade --quiet \
  --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help environment run test test-slow test-services test-engines test-others services services-stop check paper \
  atlas bench lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

environment: $(ENV)  ## make the environment in .venv from the lock file

run: $(ENV)  ## make the environment, then run a sweep: ARGS="+sweep=grid" for another one
	$(BIN)/python -m pipelines.run $(or $(ARGS),+sweep=targets)

test: $(ENV)  ## make the environment, then run the tests (the slow ones: make test-slow)
	$(BIN)/python -m pytest --numprocesses auto

test-slow: $(ENV)  ## the tests that take minutes; with MNIST_NPZ set, those on all of MNIST too
	$(BIN)/python -m pytest -m "slow and not long" --numprocesses auto

test-services: test-engines test-others  ## the tests on real services: after make services

# one process has the engines, since its tests look at all that runs there
test-engines test-others: $(SERVICES_ENV)
	$(BIN)/python -m pytest -m "service and not long" $(TESTS)
test-engines: TESTS = $(ENGINES)
test-others: TESTS = tests/services $(addprefix --ignore=,$(ENGINES))

services: $(SERVICES_ENV)  ## install and start what those need, on loopback: Slurm, Ray, PostgreSQL, a browser
	$(BIN)/python -m tests.services start

services-stop:  ## stop them
	$(BIN)/python -m tests.services stop

check: $(ENV)  ## style, types and which package may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

paper: $(ENV)  ## the paper's experiments, their tables and figures, compared with what is expected of them
	$(BIN)/python -m pipelines.paper

atlas: $(ENV)  ## the same of every test image of MNIST to every other class
	$(BIN)/python -m pipelines.paper atlas

bench: $(ENV)  ## both methods and the peer, on the same instances, in one run
	$(BIN)/python -m benchmarks.run

lock: $(ENV)  ## choose the newest versions that pyproject.toml allows
	$(COMPILE) --extra dev --output-file requirements.lock
	$(COMPILE) $(addprefix --extra ,$(SERVICES)) --constraints requirements.lock --output-file requirements-services.lock

clean:  ## remove the environment; what runs wrote stays
	rm -rf .venv .venv-peer

# the exact versions of the lock file, checked by hash, with the bytecode compiled: TensorFlow then imports twice as fast
$(ENV): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=python3.11 ...")'
	@echo "making the environment in .venv, once"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock
	@touch $@

# the launchers, the server and the browser, beside what is there
$(SERVICES_ENV): requirements-services.lock $(ENV)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements-services.lock
	@touch $@
