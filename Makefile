# Two commands do everything: `make book` and `make test`. Each makes its environment in .venv first; interrupted or
# repeated, it goes on where it stopped.

PYTHON ?= python3
PROFILE ?= small

BIN := .venv/bin
CHAPTERS := $(basename $(notdir $(wildcard notebooks/*.ipynb)))
EXAMPLES := $(basename $(notdir $(wildcard notebooks/examples/*.ipynb)))
STUDIES := $(filter-out your_own,$(CHAPTERS))
TEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
INSTALLED := .venv/.installed
BENCHED := .venv/.benched
TESTED := .venv/.tested
SOURCES := $(shell find lkd tests notebooks book _config.yml _toc.yml pyproject.toml README.md \
	-type f -not -path '*/_build/*' -not -path '*/__pycache__/*' -not -path '*/.*')

.PHONY: book site test test-fast bench lint clean

## book: train, run every chapter, build the site (PROFILE=smoke for a trial of minutes)
book: $(INSTALLED)
	@start=$$(date +%s) && \
	$(BIN)/lkd study $(STUDIES) --profile $(PROFILE) && \
	$(BIN)/lkd run $(CHAPTERS) -p profile=$(PROFILE) && \
	$(MAKE) --no-print-directory site && \
	seconds=$$(( $$(date +%s) - start )) && \
	echo "Made in $$(( seconds / 60 )) min $$(( seconds % 60 )) s."

## site: build the site from the chapters as they were last run, or else from the published records
site: $(INSTALLED)
	@echo $(CHAPTERS) $(EXAMPLES) | OMP_NUM_THREADS=1 xargs -n 8 -P 2 $(BIN)/lkd show
	@$(BIN)/jupyter-book build . --path-output book -W --keep-going --quiet
	@echo "Open book/_build/html/index.html"

## test: everything that is tested, unless nothing has changed since it passed
test: $(TESTED)
	@echo "All tests have passed on this state of the files (to run them again: rm $(TESTED))."

$(TESTED): $(INSTALLED) $(SOURCES)
	$(TEST)
	@touch $@

## test-fast: all but browsers, trainings in other processes and what takes seconds; while one works on the code
test-fast: $(INSTALLED)
	$(TEST) -m "not slow"

## bench: speed, each figure beside a named alternative in the same run (PARTS="ops models", SLAK=checkout)
bench: $(BENCHED)
	@$(BIN)/python tests/bench.py $(PARTS) $(if $(SLAK),--slak $(SLAK))

$(BENCHED): $(INSTALLED)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[bench]'
	@touch $@

## lint: style, types, and which room imports which
lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

## clean: remove the built site and the environment; data and runs in .lkd stay
clean:
	rm -rf book/_build .venv .mypy_cache .pytest_cache .ruff_cache

$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; old = sys.version_info < (3, 11); sys.exit(old and \
	"lkd needs Python 3.11 or newer, $(PYTHON) is %d.%d: make PYTHON=python3.11 ..." % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@
