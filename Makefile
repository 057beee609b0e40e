# `make` lists the targets. The first one that needs it sets everything up in .venv; nothing else is touched.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true

.venv/.installed: pyproject.toml constraints.txt scripts/setup.sh
	@PYTHON="$(PYTHON)" scripts/setup.sh

.PHONY: help setup repro test lint docs format ui clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

setup: .venv/.installed ## make .venv with everything that is needed

repro: .venv/.installed ## run the whole pipeline, or what has changed since (choices in params.yaml)
	@dvc repro
	@echo "compared: runs/comparison/comparison.md, comparison.png; curves: make ui"

# in two processes; the tests of a file stay together, as they share what they prepare
test: .venv/.installed ## run all tests
	@OMP_NUM_THREADS=1 pytest --numprocesses 2 --dist loadfile

lint: .venv/.installed ## style and types
	@ruff check .
	@ruff format --check .
	@mypy

docs: .venv/.installed ## build the documentation in site/; `mkdocs serve` shows it while you write
	@NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
	@echo "documentation: site/index.html"

format: .venv/.installed ## format the source
	@ruff check --fix .
	@ruff format .

ui: .venv/.installed ## start the MLflow UI; prints its address
	@dreamset ui

clean: ## remove data, runs, tracking and site; keep .venv and DVC's cache
	rm -rf data runs resolved tracking .checkpoints site
