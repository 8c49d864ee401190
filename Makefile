.DEFAULT_GOAL := help
.PHONY: chaos help setup check test race demo bench golden lock clean
bin := .venv/bin

help: ## list the targets
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "%-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make .venv with the pinned packages
	@tools/setup.sh

check: setup ## lint, formatting, types, layers
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/mypy
	$(bin)/lint-imports

test: setup ## the whole test suite; five at a time, since many of them wait
	$(bin)/pytest -n 5 --dist worksteal

race: setup ## race for the lock a thousand times on each backend
	RACE_ROUNDS=1000 $(bin)/pytest -q tests/backends -k never_hold_the_lock_at_once

demo: setup ## the main job on the embedded sandbox
	@$(bin)/reconciler demo

bench: setup ## measure plan and apply beside the floor
	$(bin)/python benchmarks/run.py

chaos: setup ## kill the tool everywhere, bad days, planted bugs; figures into docs/reliability.md
	$(bin)/python -m chaos --write

golden: setup ## rewrite the golden plans and the list of fields; read the diff
	$(bin)/pytest -q tests/golden tests/test_docs.py tests/render/test_schema.py --rewrite-golden

lock: setup ## pin the newest versions, with hashes
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --extra dev pyproject.toml -o requirements.lock --upgrade
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --extra encryption --extra metrics --extra notify --extra objectstore --extra policy --extra postgres -c requirements.lock pyproject.toml integrations/requirements.in -o integrations/requirements.lock --upgrade

clean: ## remove what the other targets made
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
