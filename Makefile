# Every target does its own set-up: a virtual environment in .venv and the pinned releases of constraints.txt, once.
# Another interpreter: make PYTHON=python3.12 test
PYTHON ?= python3
BIN := .venv/bin
PINS := pyproject.toml constraints.txt

CUDA := ^(nvidia|cuda)-|^triton=

.PHONY: demo test lint bench site notebooks lock clean
.DELETE_ON_ERROR:

demo: .venv/.core
	$(BIN)/rastrum demo

test: .venv/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/pyright

bench: .venv/.core
	$(BIN)/python benchmarks/sampling.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/drawing.py

# The documentation as pages: build/site/index.html. A warning is an error.
site: .venv/.dev
	$(BIN)/python docs/site/build.py build/site

# The notebooks with their results, as .ipynb for other programs: build/notebooks.
notebooks: .venv/.dev
	mkdir -p build/notebooks
	for file in notebooks/*.py; do \
	  $(BIN)/marimo export ipynb $$file -o build/notebooks/$$(basename $$file .py).ipynb --include-outputs --force || exit 1; \
	done

# The locks, after a change of constraints.txt or of a dependency: every file that PyPI has of a pinned release, by its hash. Needs uv.
lock:
	mkdir -p build
	uv pip compile -q pyproject.toml --all-extras -c constraints.txt --universal --python-version 3.11 --index-url https://pypi.org/simple \
	  --generate-hashes --no-annotate --no-header -o build/all.lock
	{ grep '^#' requirements.lock; awk '/^[^ ]/ { cuda = /$(CUDA)/ } !cuda' build/all.lock; } > build/new.lock && mv build/new.lock requirements.lock
	{ grep '^#' requirements-cuda.lock; awk '/^[^ ]/ { cuda = /$(CUDA)/ } cuda' build/all.lock; } > build/new.lock && mv build/new.lock requirements-cuda.lock

clean:
	rm -rf .venv demo build dist .pytest_cache .ruff_cache .hypothesis .benchmarks src/*.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Rastrum needs Python 3.11 or newer; '$(PYTHON)' is not. Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.core: $(PINS) | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	@touch $@

.venv/.dev: $(PINS) | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[data,hub,train,video,studio,quality,bench,site,dev]'
	@touch $@ .venv/.core
