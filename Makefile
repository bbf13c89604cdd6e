# GNU make. Needs Python 3.11 or newer with venv: as `python3`, or name another with PYTHON=...
.DEFAULT_GOAL := help
.PHONY: help dann test docs clean
.NOTPARALLEL:

PYTHON ?= python3
BIN := .venv/bin

# Passed on to the training program, such as ARGS="--data DIR".
ARGS ?=

# Each stamp is touched last: a step that was interrupted leaves none and is done again.
MADE := .venv/.made
FOR_TRAINING := .venv/.installed
FOR_TESTS := .venv/.installed-tests
FOR_DOCS := .venv/.installed-docs

help:
	@echo 'make dann    train LN83 -> LO19 with a gradient reversal layer (options: ARGS="...")'
	@echo 'make test    lint, layout, types and tests'
	@echo 'make docs    the documentation with the reference of all functions, as pages in site/'
	@echo 'make clean   remove .venv and the caches'
	@echo 'Each makes the .venv it needs. PYTHON=... names another Python than python3.'

dann: $(FOR_TRAINING)
	$(BIN)/python -m train.dann --source LN83 --target LO19 $(ARGS)

# Test files in the order of names, which has the longest among the first.
test: $(FOR_TESTS)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy sfxjax train bench
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

docs: $(FOR_DOCS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

clean:
	rm -rf .venv build site .cache sfxjax.egg-info .mypy_cache .pytest_cache .ruff_cache

$(FOR_TRAINING): $(MADE) pyproject.toml
	@echo 'Installing what training needs into .venv (some minutes the first time)'
	@rm -f $@
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(FOR_TESTS): $(MADE) pyproject.toml
	@echo 'Installing what the tests need into .venv (some minutes the first time)'
	@rm -f $@
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,formats]'
	@touch $@ $(FOR_TRAINING)

$(FOR_DOCS): $(MADE) pyproject.toml
	@echo 'Installing what the documentation needs into .venv (some minutes the first time)'
	@rm -f $@
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	@touch $@ $(FOR_TRAINING)

$(MADE):
	@command -v '$(PYTHON)' >/dev/null || \
	  { echo 'error: no $(PYTHON) found; install Python 3.11 or newer, or name one with PYTHON=...' >&2; exit 2; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $$('$(PYTHON)' --version 2>&1) is too old; name Python 3.11 or newer with PYTHON=..." >&2; exit 2; }
	@'$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo 'error: $(PYTHON) cannot make virtual environments; install its venv package (python3-venv)' >&2; exit 2; }
	@echo 'Making the virtual environment .venv'
	@'$(PYTHON)' -m venv .venv
	@touch $@
