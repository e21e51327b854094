# Each target makes or reuses .venv and installs what it needs from constraints.txt, with pip only.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help quickstart paper results keep test test-all check bench clean
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1 \t/' | expand -t 22

$(VENV)/.core: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("tofro needs Python 3.11 to 3.13; set PYTHON=python3.11, say") if not (3, 11) <= sys.version_info[:2] <= (3, 13) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) --editable '.[dev]'
	touch $@

quickstart: $(VENV)/.core  ## pretrain, adapt four ways, compare: at most five minutes on two cores
	$(BIN)/tofro study experiments/quickstart

paper: $(VENV)/.core  ## from nothing to a paper's table and figure, in outputs/paper/paper
	$(BIN)/tofro study experiments/paper
	$(BIN)/tofro report outputs/paper --paper --figures

results:  ## unpack into outputs what the studies found, for `tofro report outputs/NAME`; `tofro study` goes on from there
	for kept in experiments/*/*.tar.xz; do tar -xJf $$kept -C outputs --skip-old-files; done

keep:  ## STUDY=name: pack its results, without models and paths of this machine; with RUN=folder that run, models and all
	test -f outputs/$(STUDY)/study.json || { echo "STUDY=$(STUDY): no study under outputs; STUDY=article, say"; exit 2; }
	rm -rf outputs/.kept && mkdir -p outputs/.kept/$(STUDY)
ifdef RUN
	cp -r outputs/$(STUDY)/$(RUN) outputs/.kept/$(STUDY) && cd outputs/.kept/$(STUDY)/$(RUN) && rm -rf checkpoints .lock
else
	cd outputs && for run in $$(find $(STUDY) -name result.json -printf '%h '); do \
	  cp --parents $$run/result.json $$run/identity.json $$run/config.yaml .kept; done
	cp outputs/$(STUDY)/study.json outputs/.kept/$(STUDY)
endif
	find outputs/.kept -maxdepth 3 -type f -exec sed -i 's|$(CURDIR)/||g' {} +
	tar -cJf experiments/$(STUDY)/$(or $(RUN),results).tar.xz -C outputs/.kept --sort=name --mtime=@0 --owner=0 --group=0 $(STUDY)
	rm -rf outputs/.kept

test: $(VENV)/.dev  ## the tests, two at a time, without the slow ones
	$(BIN)/python -m pytest -n 2 -m 'not slow'

test-all: $(VENV)/.dev  ## every test
	$(BIN)/python -m pytest

check: $(VENV)/.dev  ## style, types and the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev  ## speed, side by side with peers; `python -m benchmarks --help` tells more
	$(BIN)/python -m benchmarks

clean:  ## remove caches and .venv, keep outputs
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
