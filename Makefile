# `make` lists the targets. Everything runs in a virtual environment of its own, .venv, which
# the first target that needs it sets up. Paths are relative, so that the clone may lie
# anywhere, in a folder with spaces too.

PYTHON ?= python3
TORCH ?= torch==2.13.0
JOBS ?= 2
PYTEST_ARGS ?=
BENCH_ARGS ?=
# Kernels take minutes to compile, and the tests need none in place: they build their own.
BUILD_CUDA ?= 0

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.digan-setup
OLD_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
HAS_TORCH := import sys, torch; sys.exit([int(n) for n in torch.__version__.split(".")[:2]] < [2, 10])
# Workers share the cores: more than one thread each makes them wait for one another.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) -rs
NATIVE_FILES := find csrc -name '*.cu' -o -name '*.cuh' -o -name '*.h' -o -name '*.cpp' | sort

.DEFAULT_GOAL := help
.PHONY: help setup demo test soak lint format docs bench wheel clean

help:
	@echo 'make demo     train a small model on a small video set and write runs/demo'
	@echo 'make test     run the tests            (PYTEST_ARGS="-k ops", JOBS=2)'
	@echo 'make soak     run the sweeps for much longer'
	@echo 'make lint     check style and types'
	@echo 'make format   rewrite the sources in the house style'
	@echo 'make docs     build the documentation into build/docs'
	@echo 'make bench    measure this machine     (BENCH_ARGS="--section generator")'
	@echo 'make wheel    build dist/*.whl with kernels for every card (TORCH_CUDA_ARCH_LIST, MAX_JOBS)'
	@echo 'make setup    make .venv and install  (PYTHON=python3, TORCH=torch==2.13.0, BUILD_CUDA=1)'
	@echo 'make clean    remove what was built; runs/ and .venv stay'

setup: $(STAMP)

# A PyTorch that PYTHON can import is used as it is. The constraint file holds pip to the
# PyTorch that is there: what does not fit it is an error, not a replacement.
$(STAMP): pyproject.toml setup.py
	@$(PYTHON) -c '$(OLD_ENOUGH)' || { echo 'digan needs Python 3.11 or newer, got '"$$($(PYTHON) --version)"': make PYTHON=python3.11 setup'; exit 1; }
	@if [ ! -x $(PY) ]; then \
	  if $(PYTHON) -c '$(HAS_TORCH)' 2>/dev/null; then \
	    echo 'setup: .venv with the PyTorch of $(PYTHON)'; \
	    $(PYTHON) -m venv --system-site-packages $(VENV) || exit 1; \
	    $(PY) -c '$(HAS_TORCH)' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV); \
	  else \
	    echo 'setup: .venv'; $(PYTHON) -m venv $(VENV); \
	  fi; \
	fi
	@$(PY) -c '$(HAS_TORCH)' 2>/dev/null || { echo 'setup: $(TORCH)'; $(PY) -m pip install --quiet '$(TORCH)'; }
	@$(PY) -c 'import torch; print("torch==" + torch.__version__)' > $(VENV)/torch.txt
	@echo 'setup: digan and its tools'
	@$(PY) -m pip install --quiet 'setuptools>=77'
	@DIGAN_BUILD_CUDA=$(BUILD_CUDA) $(PY) -m pip install --quiet --no-build-isolation --constraint $(VENV)/torch.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP)
	@$(PY) -m digan demo --outdir runs/demo

test: $(STAMP)
	@$(PYTEST) $(PYTEST_ARGS)

soak: $(STAMP)
	@DIGAN_SOAK=1 $(PYTEST) -m soak $(PYTEST_ARGS)

# All checks run, so that one round shows everything there is to mend.
lint: $(STAMP)
	@status=0; \
	$(PY) -m ruff check . || status=1; \
	$(PY) -m ruff format --check . || status=1; \
	$(PY) -m mypy || status=1; \
	$(NATIVE_FILES) | xargs -r $(VENV)/bin/clang-format --dry-run -Werror || status=1; \
	exit $$status

format: $(STAMP)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	@$(NATIVE_FILES) | xargs -r $(VENV)/bin/clang-format -i

# Made anew each time, as tables and help texts come from sources that Sphinx does not watch.
docs: $(STAMP)
	@rm -rf build/docs
	@OMP_NUM_THREADS=1 $(PY) -m sphinx -q -n -W --keep-going -E -b html -d build/doctrees docs build/docs
	@echo 'docs: build/docs/index.html'

bench: $(STAMP)
	@$(PY) benchmarks/bench_inr.py $(BENCH_ARGS)

# DIGAN_BUILD_CUDA=1: a wheel without kernels is an error here.
wheel: $(STAMP)
	@DIGAN_BUILD_CUDA=1 $(PY) -m pip wheel . --quiet --no-deps --no-build-isolation --wheel-dir dist
	@ls -l dist/*.whl

clean:
	rm -rf build dist digan.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	@find digan tests examples benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +
