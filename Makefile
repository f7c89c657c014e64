# make setup | demo | test | lint | docs | linkcheck | bench | tables | clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# With two busy cores, more than one thread a process is many times slower than one.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: setup demo test lint docs linkcheck bench tables clean

setup: $(STAMP)

$(STAMP): requirements.txt pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Expected Python 3.11 or newer, got " + sys.version.split()[0] + ": set PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python scripts/demo.py

# The text that the demo has extracted is not extracted again: its cache is keyed by what it is made of.
test: $(STAMP)
	LENSLLM_CACHE_DIR="$${LENSLLM_CACHE_DIR:-$${HOME:-.}/.cache/lensllm}" $(BIN)/python -m pytest -q -n 2

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# The site, with every notebook executed, in about 2 minutes; a warning is an error.
docs: $(STAMP)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo 'Open docs/_build/html/index.html'

# Links to other sites; needs the internet, and so is no part of the tests.
linkcheck: $(STAMP)
	$(BIN)/python -m sphinx -q -b linkcheck -D nb_execution_mode=off docs docs/_build/linkcheck

bench: $(STAMP)
	for script in scripts/bench_*.py; do $(BIN)/python $$script || exit 1; done

tables: $(STAMP)
	$(BIN)/python -m lensllm tables $(ARGS)

clean:
	rm -rf $(VENV) build dist docs/_build *.egg-info multirun .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find outputs -mindepth 1 -not -name .gitkeep -delete
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
