# `make` lists the targets.
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
ENV := .venv/.complete
SERVICES_ENV := .venv/.services
DOCS_ENV := .venv-docs/.complete
PEERS_UV = $(BIN)/uv --config-file peers/uv.toml
# the extras for other launchers, a tracking server, and the tests with real services
SERVICES := joblib ray slurm server services
# the tests with Slurm and Ray
ENGINES := $(addprefix tests/services/test_,launchers.py services.py other_environment.py)
COMPILE = $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --upgrade --quiet \
  --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help environment run test test-slow test-wheel test-pages test-peers test-services test-engines test-others services \
  services-stop check paper atlas bench peers docs lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

environment: $(ENV)  ## create the environment in .venv from the lock file

run: $(ENV)  ## create the environment and run a sweep; ARGS="+sweep=grid" runs another one
	$(BIN)/python -m pipelines.run $(or $(ARGS),+sweep=targets)

test: $(ENV)  ## create the environment and run the tests, except the slow ones
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

test-slow: $(ENV)  ## run the tests that take minutes; set MNIST_NPZ to include those on the full MNIST
	$(BIN)/python -m pytest -m "slow and not long" --numprocesses auto --dist worksteal

test-wheel: $(ENV)  ## build the package, install it in another folder and run a sweep there
	$(BIN)/python -m pytest -m slow tests/workflow/test_wheel.py

test-pages: $(ENV)  ## run the commands and the Python examples of the documentation
	$(BIN)/python -m pytest -m long tests/workflow/test_pages.py --numprocesses auto --dist worksteal

test-peers: $(ENV) peers  ## run methods of other libraries in a small sweep
	CFX_REQUIRE_PEERS=1 $(BIN)/python -m pytest -m slow tests/workflow/test_peers.py

test-services: test-engines test-others  ## run the tests with real services, after `make services`

# a separate process, because the tests of Slurm and Ray look at all running jobs
test-engines test-others: $(SERVICES_ENV)
	$(BIN)/python -m pytest -m "service and not long" $(TESTS)
test-engines: TESTS = $(ENGINES)
test-others: TESTS = tests/services $(addprefix --ignore=,$(ENGINES))

services: $(SERVICES_ENV)  ## install and start the services on the loopback interface: Slurm, Ray, PostgreSQL, a browser
	$(BIN)/python -m tests.services start

services-stop:  ## stop the services
	$(BIN)/python -m tests.services stop

check: $(ENV)  ## check the style, the types and the imports between packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

paper: $(ENV)  ## run the experiments of the paper and compare their results with the expected ones
	$(BIN)/python -m pipelines.paper

atlas: $(ENV)  ## the same for every MNIST test image and every other class
	$(BIN)/python -m pipelines.paper atlas

bench: $(ENV)  ## compare the methods and the peer on the same instances
	$(BIN)/python -m benchmarks.run

docs: $(DOCS_ENV)  ## build the documentation into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

lock: $(ENV)  ## update the lock files to the newest versions that pyproject.toml allows
	$(COMPILE) pyproject.toml --extra dev --output-file requirements.lock
	$(COMPILE) pyproject.toml $(addprefix --extra ,$(SERVICES)) --constraints requirements.lock \
	  --output-file requirements-services.lock
	$(COMPILE) --group docs --output-file requirements-docs.lock
	for name in alibi torch; do $(PEERS_UV) pip compile peers/$$name.in --universal --python-version 3.11 --generate-hashes \
	  --upgrade --quiet --custom-compile-command "make lock" --output-file peers/$$name.lock || exit; done

clean:  ## remove the environments, but not the results
	rm -rf .venv .venv-peers .venv-docs site

peers: .venv-peers/alibi/.complete .venv-peers/torch/.complete  ## create the environments of other libraries' methods, for +experiment=field_small

# alibi needs TensorFlow 2.14, and that needs Python 3.11; adversarial-library needs Python below 3.12
.venv-peers/%/.complete: peers/%.lock peers/uv.toml $(ENV)
	@echo "creating the environment in $(@D)"
	@$(BIN)/uv venv --quiet --clear --python 3.11 $(@D)
	@$(PEERS_UV) pip sync --quiet --python $(@D)/bin/python --compile-bytecode --require-hashes peers/$*.lock
	@touch $@

# exact versions, verified by hash; compiled bytecode halves the import time of TensorFlow
$(ENV): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=python3.11 ...")'
	@echo "creating the environment in .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock
	@touch $@

# adds the packages of the services to the environment
$(SERVICES_ENV): requirements-services.lock $(ENV)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements-services.lock
	@touch $@

# the site needs no package of the library, because its pages come from the source text
$(DOCS_ENV): requirements-docs.lock
	@$(PYTHON) -m venv .venv-docs
	@.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.lock
	@touch $@
