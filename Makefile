# `make run` and `make test` are all one needs; each sets up what it needs the first time.
#   make run  ARGS="--recipe cifar100-cpu --out runs/c100"     distil, export, prove parity
#   make test ARGS="tests/bundle -x"                           the test suite, or part of it
#   make check                                                 format, lint, types, floors, docs
# VENV=DIR puts the virtual environment elsewhere; PYTHON=... chooses the interpreter (3.11 to 3.13).

VENV ?= .venv
PYTHON ?= $(shell scripts/find-python)
ARGS ?=

PIP = $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.PHONY: run test check
.DELETE_ON_ERROR:

run: $(VENV)/.installed
	$(VENV)/bin/mldr-deploy distill-and-export $(ARGS)

test: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest $(ARGS)

check: $(VENV)/.installed-dev
	PYTHON=$(VENV)/bin/python scripts/check

# A stamp is touched last, so an interrupted set-up is done again; it is newer than what it was made
# from, so a second call installs nothing.
$(VENV)/.created:
	@test -n "$(PYTHON)" || { echo "Error: no Python 3.11 to 3.13 found; install one, or name it: make PYTHON=/path/to/python3" >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	@echo "Installing mldr-deploy and PyTorch into $(VENV) (some minutes, once)"
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) -e ".[dev]"
	@touch $@
