# `make` lists what can be made.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help
help:
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: reproduce
reproduce: .venv/installed ## run the whole pipeline; print the results beside the committed ones
	dvc repro
	python -m stages.reproduce

.PHONY: test
test: .venv/installed ## run the whole test suite, without network
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-processes test-functions

# Two halves at once, of about the same length: tests that run DVC and stages as processes, the rest.
.PHONY: test-processes test-functions
test-processes test-functions: export HF_HUB_OFFLINE = 1
test-processes:
	python -m pytest -m slow
test-functions:
	python -m pytest -m "not slow"

.PHONY: report
report: .venv/installed ## run what has changed; make reports/index.html, a page to browse
	dvc repro

.PHONY: bench
bench: .venv/installed ## measure how soon a search answers, and how fast a live teacher asks
	python benchmarks/search_start.py
	python benchmarks/teacher.py

.PHONY: lint
lint: .venv/installed ## check style
	ruff check .
	ruff format --check .

.PHONY: lock
lock: .venv/installed ## renew dvc.lock and metrics by a real run, and note this CPU's type
	dvc repro
	python -m stages.reproduce --record

.venv/installed: requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed; try make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	# torch first and by itself, so that pip takes the pinned build and nothing larger
	python -m pip install --quiet --disable-pip-version-check $(addprefix --index-url=,$(TORCH_INDEX)) \
		"$$(grep '^torch==' requirements.lock)"
	python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	touch $@
