# Meterstream's commands. `make help` lists them.
# Every path is relative, so that a checkout whose path holds a space works.

PYTHON ?= python3
JOBS ?= 2
VENV := .venv
RUN := $(VENV)/bin/python

PARTS := $(patsubst %/pyproject.toml,%,$(wildcard */pyproject.toml deploy/*/pyproject.toml))
CODE := $(wildcard $(addsuffix /src,$(PARTS)) deploy/preflight.py docs/examples tests bench)
FAST_TESTS := $(wildcard tests/unit tests/property tests/contract)
COVERING_TESTS := tests/unit tests/property $(addprefix tests/integration/,audit sinks streams)

# The environment is made again when the lock, a part's dependencies or the directory change.
STAMP := $(VENV)/installed-$(shell { pwd; cat requirements.lock $(PARTS:%=%/pyproject.toml); } | cksum | tr ' ' '-')

# A Python named on the command line replaces an environment made with another one.
ifeq ($(origin PYTHON),command line)
VERSION_OF := -c 'import sys; print(sys.version_info[:2])' 2>/dev/null
ifneq ($(shell $(PYTHON) $(VERSION_OF)),$(shell $(RUN) $(VERSION_OF)))
.PHONY: $(STAMP)
endif
endif

.DEFAULT_GOAL := help
.PHONY: help setup check test test-fast coverage demo bench mutants lock clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## make the environment in .venv (PYTHON=python3.12 chooses the Python)

$(STAMP):
	@$(PYTHON) deploy/preflight.py
	@echo "Setting up $(VENV) with $$($(PYTHON) -V) ..."
	@rm -f $(VENV)/installed-*
	@[ "$$($(RUN) -c 'import pip, sys; print(sys.version_info[:2])' 2>/dev/null)" = \
	   "$$($(PYTHON) -c 'import sys; print(sys.version_info[:2])')" ] || $(PYTHON) -m venv --clear $(VENV)
	$(RUN) -m pip install --disable-pip-version-check --require-hashes -r requirements.lock
	$(RUN) -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation $(PARTS:%=-e ./%)
	@touch $@
	@echo "Done. Next: make demo"

check: setup ## formatting, lint, types and the edges between the parts
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy $(CODE)
	$(VENV)/bin/lint-imports --no-logo

# In the order of the directories: the long files begin first, so the workers end together.
# METERSTREAM_TEST_KILLS=50 has the tests that kill do it so often; by default they do it 2 to 4 times.
test: setup ## every test, on real brokers and the real engine (JOBS=2 at a time)
	$(RUN) -m pytest tests -n $(JOBS) --dist loadfile --no-loadscope-reorder

test-fast: setup ## the tests that need neither broker nor engine
	$(RUN) -m pytest $(FAST_TESTS) -n $(JOBS)

coverage: setup ## lines and branches of core, journal and sinks that tests run, 95 % of each
	rm -f .coverage .coverage.*
	COVERAGE_FILE="$(CURDIR)/.coverage" $(RUN) -m pytest $(COVERING_TESTS) -n $(JOBS) --dist loadfile \
	    --cov --cov-report=
	$(RUN) -m tests.support.covered --least 95

demo: setup ## the whole pipeline on this machine (TRACE=path replays one, KEEP=1 leaves it up)
	$(VENV)/bin/meterstream demo $(if $(TRACE),--trace "$(TRACE)") $(if $(KEEP),--keep)

bench: setup ## measure speed, latency and memory, and write JSON
	$(RUN) -m bench

mutants: setup ## mutation testing of the core: how many small changes the tests notice
	$(RUN) -m tests.support.mutants --least 85

lock: setup ## pin requirements.in again, with hashes and without any index's address
	$(RUN) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-annotate --no-emit-index-url --no-emit-find-links requirements.in -o requirements.lock

clean: ## remove caches and reports (the environment and your data stay)
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.* htmlcov mutants
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
