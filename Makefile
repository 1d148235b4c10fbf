# Every target builds the environment it needs, in .venv.
PYTHON ?= python3
BACKENDS ?= tensorflow jax torch
# Files in their order: the default begins those of one long test last, on one worker alone.
PYTEST ?= --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
export TF_CPP_MIN_LOG_LEVEL ?= 2
# Workers and backends share compiled files, wherever else they are not wanted.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: quickstart test lint types format docs tutorials notebooks dist gpu clean

quickstart: .venv/run.stamp  ## environment and the main job on the embedded data set
	$(BIN)/keras-taps quickstart

# One thread a worker: PyTorch is many times slower where its threads outnumber the cores.
test: .venv/dev.stamp  ## environment and the whole test suite on three backends
	@for backend in $(BACKENDS); do \
		echo "== $$backend" && \
		OMP_NUM_THREADS=1 KERAS_BACKEND=$$backend $(BIN)/python -m pytest $(PYTEST) tests keras_taps || exit 1; \
	done

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev.stamp  ## mypy: what is annotated is true
	$(BIN)/mypy

format: .venv/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/docs.stamp  ## tables up to date, commands, the site with warnings as errors, into site/
	$(BIN)/python benchmarks/tables.py --check
	$(BIN)/typer keras_taps.cli.app utils docs --name keras-taps --output docs/cli.md
	$(BIN)/mkdocs build --strict --quiet

# Copies, because a notebook writes its files beside it.
tutorials: .venv/dev.stamp  ## every notebook, reduced, as CI runs it
	rm -rf build/tutorials && mkdir -p build/tutorials && cp tutorials/*.ipynb build/tutorials
	KERAS_TAPS_QUICK=1 $(BIN)/python -m pytest $(PYTEST) --quiet --nbmake --nbmake-timeout=600 build/tutorials

notebooks: .venv/dev.stamp  ## run the notebooks whole and keep their outputs
	rm -rf build/notebooks && mkdir -p build/notebooks && cp tutorials/*.ipynb build/notebooks
	$(BIN)/python -m pytest --quiet --nbmake --overwrite --nbmake-timeout=1800 build/notebooks
	cp build/notebooks/*.ipynb tutorials

dist: .venv/dev.stamp  ## wheel and sdist in dist/, and the quick start from the wheel in an empty environment
	rm -rf dist build/empty && $(BIN)/python -m build --quiet && $(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv build/empty
	build/empty/bin/python -m pip install --quiet --constraint constraints.txt dist/*.whl
	cd build && empty/bin/keras-taps quickstart

gpu: .venv/run.stamp  ## what the run on a machine with a GPU needs, in build/gpu, and how to start it there
	$(BIN)/python benchmarks/gpu_files.py build/gpu
	@echo "On the machine: python3 benchmarks/gpu.py --files build/gpu --out OUT"

clean:
	rm -rf .venv .cache site docs/cli.md build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/run.stamp: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable .
	@touch $@

.venv/dev.stamp: .venv/run.stamp
	$(PIP) --editable '.[dev]'
	@touch $@

.venv/docs.stamp: .venv/run.stamp
	$(PIP) --editable '.[docs]'
	@touch $@
