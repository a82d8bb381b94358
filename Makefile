# Everything a user runs; each target installs what it needs first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock
SOURCES := study search_spaces analysis tests benchmarks verification cluster docs

.PHONY: batch_limit smoke mlflow submit test test-slow test-gpu test-all verify-laws check docs format lock bench bench-limits clean

batch_limit smoke: $(VENV)/.installed  ## Run a study to its answer; again, it prints the answer.
	$(BIN)/python -m study.sweep $@ $(ARGS)

$(VENV)/.installed: pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -e '.[dev]'
	touch $@ $(VENV)/.installed

mlflow: $(VENV)/.installed  ## Serve MLflow on the default storage (or STORAGE=...), with links to the comparisons.
	$(BIN)/python -m study.commands.mlflow $(if $(STORAGE),--storage="$$STORAGE")

submit: $(VENV)/.installed  ## Submit a study to the cluster at RAY_API_SERVER_ADDRESS, with commit and dirty flag.
	commit=$$(git rev-parse HEAD 2>/dev/null) && dirty=$$(test -z "$$(git status --porcelain)"; echo $$?); \
	$(BIN)/ray job submit --working-dir . \
	  --runtime-env-json "{\"env_vars\": {\"STUDY_COMMIT\": \"$$commit\", \"STUDY_DIRTY\": \"$$dirty\"}}" \
	  -- python -m study.sweep $(or $(STUDY),batch_limit) $(ARGS)

test: $(VENV)/.installed-dev  ## The default tests: CPU, offline.
	$(BIN)/python -m pytest

test-slow: $(VENV)/.installed-dev  ## Longer tests: job submission, nested training, full coverage.
	$(BIN)/python -m pytest -m slow

test-gpu: $(VENV)/.installed-dev  ## Tests that need a GPU.
	$(BIN)/python -m pytest -m gpu

test-all: test test-slow

verify-laws: $(VENV)/.installed  ## Every law against Monte Carlo: writes docs/theory-tables.md, 6 to 10 minutes on two cores.
	$(BIN)/python -m verification.laws $(ARGS)

bench: $(VENV)/.installed-dev  ## The benchmarks, side by side with lightly and pytorch-metric-learning: about half an hour.
	# Only what is compared: the trainers that lightly brings along pin versions that clash with ours.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  'lightly>=1.6' 'lightning-utilities>=0.15' 'pytorch-metric-learning>=2.9'
	for name in losses views steps packs workers oar_escape; do \
	  echo "## $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; \
	done

bench-limits: $(VENV)/.installed-dev  ## Coverage of intervals and economy of limit seeking, by simulation: about two hours on two cores.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'psignifit==4.3'
	$(BIN)/python -m verification.coverage --sets 2000 --seed 20261127 --processes 2
	$(BIN)/python -m verification.economy --repeats 25 --seed 20261127 --processes 2 \
	  --pool $(or $(STUDY_STORAGE),$(HOME)/.local/share/limit-study)/economy-pool.parquet

check: $(VENV)/.installed-dev  ## Lint, format, types.
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

docs: $(VENV)/.installed-dev  ## The documentation as HTML in docs/_build/html; a warning is an error.
	$(BIN)/python -m sphinx -W --keep-going -n -q -j auto -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

lock:  ## Renew requirements.lock with uv.
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --no-annotate --no-header \
	  --no-emit-index-url --no-emit-find-links -o requirements.lock

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache *.egg-info
