# The one entry to everything: `make help` lists it. What it needs: Python 3.11 or newer with venv, and make.

PYTHON ?= python3
ARGS ?=
# Processes that test side by side, each with services of its own (0: none beside pytest's, for a debugger). One more
# than two processors can feed: what is tested on services waits for them half of the time.
TESTERS ?= 3
BIN := .venv/bin
STAMP := .venv/.installed-$(shell cat requirements-dev.lock pyproject.toml | cksum | cut -d ' ' -f 1)

# The tests start some hundred processes; without bytecode each would compile the worker anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo test lint types check format lock acceptance acceptance-anniversaries acceptance-bench acceptance-chaos acceptance-growth acceptance-live-catalog acceptance-mutation acceptance-pages acceptance-properties acceptance-shuffled clean

help: ## List what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Make .venv with every extra, the test tools and this checkout (done once for each lock file)

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 …" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv || { echo "Python's venv is needed (Debian: apt-get install python3-venv)"; exit 1; }
	@echo "installing what requirements-dev.lock names into .venv"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@rm -f .venv/.installed-* && touch $@

demo: install ## Play a community's events through a real worker (ARGS=--once ends with a summary)
	@$(BIN)/badges demo $(ARGS)

test: install ## Run unit, property, contract and integration tests on the services that are here
	@$(BIN)/pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder tests/unit tests/properties tests/contracts tests/integration $(ARGS)

lint: install ## Check style, layers between rooms, YAML, migrations and the Dockerfile
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/yamllint --strict .
	@$(BIN)/hadolint deploy/Dockerfile
	@$(BIN)/squawk sql/0*.sql

types: install ## Check types, strictly
	@$(BIN)/mypy --strict worker

check: lint types test ## Everything that must pass before a change goes in

format: install ## Put the code into its form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: install ## Resolve the lock files again from pyproject.toml (needs uv)
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-annotate pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-annotate --all-extras pyproject.toml -o requirements-dev.lock
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-annotate --extra admin --extra js -c requirements-dev.lock pyproject.toml -o requirements-image.lock

acceptance: acceptance-properties acceptance-mutation acceptance-shuffled acceptance-chaos acceptance-live-catalog acceptance-anniversaries acceptance-growth acceptance-pages acceptance-bench ## Run what is asked of a release, by hand: up to 40 min each

acceptance-chaos: install ## Kill workers, broker and database mid-stream and compare every award (BADGES_TEST_SEEDS=1-20)
	@BADGES_TEST_REQUIRE=kafka,postgres BADGES_TEST_SEEDS=$${BADGES_TEST_SEEDS:-1-20} $(BIN)/pytest tests/acceptance -m chaos $(ARGS)

acceptance-live-catalog: install ## Add badges mid-stream while workers are killed and compare every award (BADGES_TEST_SECONDS=n)
	@BADGES_TEST_REQUIRE=kafka,postgres $(BIN)/pytest tests/acceptance -m live_catalog $(ARGS)

acceptance-anniversaries: install ## Let ten years of anniversaries go by in 12 zones on PostgreSQL, while replicas are killed
	@$(BIN)/pytest tests/acceptance -m anniversaries $(ARGS)

acceptance-growth: install ## Count the work of an event for 100,000 badges, 100,000 events of a user, a million users
	@$(BIN)/pytest tests/acceptance -m growth $(ARGS)

acceptance-pages: install ## Time the first byte of the panel's pages at a million awards and 100,000 users
	@$(BIN)/pytest tests/acceptance -m pages -s $(ARGS)

acceptance-properties: install ## Hold the engine to the oracle with 2,000 examples a property, and fuzz the grammar (ARGS=part of a name)
	@$(BIN)/python -m tests.acceptance.properties $(ARGS)

acceptance-mutation: install ## Change the rules at a sample of places and see the tests notice (ARGS="--mutants 200 --seed 1")
	@$(BIN)/python -m tests.acceptance.mutation $(ARGS)

acceptance-shuffled: install ## Send a community's events in five shuffled orders and compare every award (BADGES_TEST_SEEDS=1-5)
	@BADGES_TEST_REQUIRE=kafka,postgres BADGES_TEST_SEEDS=$${BADGES_TEST_SEEDS:-1-5} $(BIN)/pytest tests/acceptance -m shuffled $(ARGS)

acceptance-bench: install ## Measure the worker against the durable floor and hold every bound (ARGS=--quick for a look)
	@$(BIN)/python -m tests.acceptance.bench $(ARGS)

clean: ## Remove .venv, caches and builds
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist mutants
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
