# Everything sets itself up: .venv is made and filled from requirements.lock when it is missing or older than the lock.
# PYTHON=/path/to/python3.12 chooses the Python; TESTS and WORKERS narrow and widen `make test`.

BIN := .venv/bin
TESTS ?= tests
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test compatibility lint format bench docs lock clean

help: ## what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

setup: .venv/.installed ## make .venv and install what the lock holds

.venv/.installed: requirements.lock pyproject.toml tools/setup.sh
	@tools/setup.sh

demo: setup ## train a model, register it, deploy two replicas and score real rows; can be run again at any time
	@$(BIN)/python examples/demo.py

test: setup ## run every test that this machine can run, and list what was left out
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(TESTS)

compatibility: setup ## run the tests that show what works, and write docs/compatibility.md from them
	@$(BIN)/python tools/compatibility_page.py

lint: setup ## ruff, mypy --strict and the import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict src tests bench
	@$(BIN)/lint-imports
	@find src tests examples tools bench -name '*.py' | xargs wc -l | awk '$$1 > 400 && $$2 != "total" { print "guide: at most 400 lines a file:", $$0 }'

format: setup ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup ## measure Argosy against other servers and its budgets; writes docs/benchmarks.md
	@$(BIN)/python -m bench $(BENCH_ARGS)

docs: setup ## write the pages that are made from the source: docs/settings.md
	@$(BIN)/python tools/settings_page.py

lock: setup ## resolve pyproject.toml anew into requirements.lock, the same for Python 3.11 to 3.14, Linux and macOS
	@$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --fork-strategy fewest \
		--generate-hashes --no-emit-index-url --custom-compile-command 'make lock' --upgrade --quiet \
		--output-file requirements.lock

clean: ## remove .venv, caches and what the examples trained; $ARGOSY_HOME stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	@rm -f examples/*/*.pkl examples/*/*.joblib
	@find src tests examples bench -name __pycache__ -type d -prune -exec rm -rf {} +
