# Each target does all of its own set-up in .venv; what is installed already is not installed again.
#
#   make demo       the whole pipeline on the embedded models: label, train, export, score, measure
#   make test       every test
#   make test-cluster   the tests that start a Ray cluster on this machine, which needs free cores
#   make test-fast  the tests without models, training and browsers, for daily work
#   make lint       ruff and mypy
#   make figures    the shape of the source tree in figures
#   make bench      the programs behind docs/results.md, one page in build/results/; DATA=FOLDER: those on public sets, too
#   make docs       write docs/cli.md from the commands themselves
#   make site       the documents as a site, in site/
#   make clean      remove what the above made

SHELL := /bin/bash
STAMP := $(shell .ci/install --stamp)
BIN := .venv/bin
WORKERS := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-cluster test-fast lint figures bench docs site clean
.DEFAULT_GOAL := demo

demo: $(STAMP)
	$(BIN)/potstill demo

# Where no bytecode is written, each of the hundreds of programs that the tests start compiles ours anew.
test test-fast: export PYTHONDONTWRITEBYTECODE =

test: $(STAMP)
	$(BIN)/python -m pytest -q --durations=15 $(WORKERS)

test-cluster: $(STAMP)
	POTSTILL_CLUSTER=1 $(BIN)/python -m pytest -q tests/serve/bulk/test_cluster.py tests/workflows/test_label_on_cluster.py

test-fast: $(STAMP)
	$(BIN)/python -m pytest -q -m "not slow" $(WORKERS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

figures: $(STAMP)
	$(BIN)/python benchmarks/structure.py

bench: $(STAMP)
	$(BIN)/python benchmarks/claims/run_claims.py $(if $(DATA),--data '$(DATA)')

docs: $(STAMP)
	$(BIN)/python -m potstill.commands.reference docs/cli.md docs/api.md docs/http.md

site: $(STAMP)
	rm -rf build/site site && mkdir -p build/site && cp -r docs .ci/zensical.toml build/site/
	cd build/site && ../../$(BIN)/zensical build --strict
	mv build/site/site site

$(STAMP):
	@.ci/install

clean:
	rm -rf .venv demo site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
