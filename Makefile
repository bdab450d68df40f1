# Two commands: `make demo` and `make test`. Both need git, make and CPython 3.11 or newer.
# They work from any folder (`make -C path/to/here demo`), and again when run again.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test coverage lint docs screenshots clean

# Recipes run in make's own working directory, which `make -C` sets to this folder.
VENV := .venv
VENV_PYTHON := $(VENV)/bin/python
# The interpreter of a new environment. Another one: `make test PYTHON=python3.12`.
PYTHON ?= python3
# Further words for pytest or the demo: `make test ARGS='-k stitch'`.
ARGS ?=

help:
	@echo 'make demo   install into $(VENV), segment a sample stack and show the result'
	@echo 'make test   install into $(VENV), run all tests, also those that open a window'
	@echo 'make coverage  the same, and tell which lines no test runs'
	@echo 'make lint   ruff, formatting, mypy and the import contracts'
	@echo 'make docs   build the documentation into site/'
	@echo 'make screenshots  take the pictures of the documentation anew'
	@echo 'make clean  remove $(VENV) and what the other commands wrote'

demo: $(VENV)/.installed-gui
	$(VENV_PYTHON) -m napari_sam demo $(ARGS)

test: $(VENV)/.installed-gui,test,docs,distributed
	$(VENV_PYTHON) tools/run_tests.py $(ARGS)

coverage: $(VENV)/.installed-gui,test,docs,distributed
	$(VENV_PYTHON) tools/run_tests.py --coverage

lint: $(VENV)/.installed-gui,test,docs,distributed,dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

docs: $(VENV)/.installed-gui,test,docs,distributed
	$(VENV)/bin/mkdocs build --strict

screenshots: $(VENV)/.installed-gui,test,docs,distributed
	$(VENV_PYTHON) tools/make_screenshots.py $(ARGS)

clean:
	rm -rf $(VENV) site napari-sam-demo

# One stamp per set of extras; a change of the requirements installs again.
$(VENV)/.installed-%: pyproject.toml constraints.txt $(VENV)/.created
	$(VENV_PYTHON) -m pip install --quiet --constraint constraints.txt --editable '.[$*]'
	@touch '$@'

$(VENV)/.created:
	$(PYTHON) tools/create_environment.py $(VENV)
	@touch $@
