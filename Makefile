# `make` lists the targets. The first one that needs it sets everything up in .venv; nothing else is touched.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true

.venv/.installed: pyproject.toml constraints.txt scripts/setup.sh
	@PYTHON="$(PYTHON)" scripts/setup.sh

DEMO ?= $(or $(TMPDIR),/tmp)/dreamset_demo

.PHONY: help setup repro demo report experiments ui doctor docs test lint format clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 13

setup: .venv/.installed ## make .venv with everything that is needed

# PRESET=tiny and DATASET=pendulum_state change params.yaml first
repro: .venv/.installed ## run the pipeline of params.yaml, or what has changed since; e.g. make repro PRESET=tiny
	@$(if $(PRESET),sed -i.bak 's/^preset:[^#]*/preset: $(PRESET) /' params.yaml && rm params.yaml.bak)
	@$(if $(DATASET),sed -i.bak 's/^dataset:[^#]*/dataset: $(DATASET) /' params.yaml && rm params.yaml.bak)
	@dvc repro
	@dreamset results

# the models are too small to learn anything; the results of this folder are not touched
demo: .venv/.installed ## run the whole pipeline at its smallest, in a folder of its own (DEMO=folder), in two minutes
	@[ -e "$(DEMO)/params.yaml" ] || dreamset init "$(DEMO)" >/dev/null
	@cp dvc.yaml "$(DEMO)/dvc.yaml" # the folder may be of an earlier release
	@cd "$(DEMO)" && sed -i.bak -e 's/^preset:[^#]*/preset: tiny /' -e 's/^dataset:[^#]*/dataset: pendulum_state /' \
	  params.yaml && rm params.yaml.bak && dvc repro && dreamset results

report: .venv/.installed ## print the results and where report and videos lie
	@dreamset results

# in two processes; the tests of a file stay together, as they share what they prepare
test: .venv/.installed ## run all tests
	@OMP_NUM_THREADS=1 pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: .venv/.installed ## style and types
	@ruff check .
	@ruff format --check .
	@mypy

docs: .venv/.installed ## build the documentation in site/; `mkdocs serve` shows it while you write
	@NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
	@echo "documentation: site/index.html; its search needs a server: python -m http.server --directory site"

format: .venv/.installed ## format the source
	@ruff check --fix .
	@ruff format .

experiments: .venv/.installed ## list the experiments of `dvc exp run`: what each changed and earned
	@dreamset experiments

ui: .venv/.installed ## start the MLflow UI; prints its address
	@dreamset ui

doctor: .venv/.installed ## check this machine and this project, and say what to fix
	@dreamset doctor

clean: ## remove data, runs, tracking and site; keep .venv and DVC's cache
	rm -rf data runs resolved tracking .checkpoints site
