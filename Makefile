# make live   the only set-up command for use: environment, packages, server, address
# make test   the only set-up command for tests
# make gpu-check   tests and measures on a machine with an NVIDIA GPU: [WHEELS=dir] [OUT=dir] [STAGES="look tests:60"]
# make lint   what `make test` checks before it runs the tests

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell scripts/find-python.sh)
ARGS ?=
TESTS ?=
WHEELS ?=
OUT ?=
QUICK ?=
STAGES ?=
# These compute and may run side by side; the others measure time or hold a browser
COMPUTING := tests/benchmarks tests/calib tests/engine tests/trainer

.PHONY: live test lint gpu-check clean

live: $(VENV)/.stream
	@$(BIN)/livetoon $(ARGS)

test: $(VENV)/.test
	@scripts/find-chromium.sh
	@$(MAKE) --no-print-directory lint
ifeq ($(TESTS)$(ARGS),)
	$(BIN)/python -m pytest $(addprefix --ignore=,$(COMPUTING))
	$(BIN)/python -m pytest -n 2 $(COMPUTING)
else
	$(BIN)/python -m pytest $(TESTS) $(ARGS)
endif

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/lint-imports

gpu-check:
	@WHEELS="$(WHEELS)" OUT="$(OUT)" QUICK="$(QUICK)" scripts/gpu_check.sh $(STAGES)

$(VENV)/.stream: pyproject.toml constraints.txt
	@scripts/install.sh "$(PYTHON)" $(VENV) stream
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt
	@scripts/install.sh "$(PYTHON)" $(VENV) stream,train,dev,tensorrt-rtx
	@touch $@ $(VENV)/.stream

clean:
	rm -rf $(VENV) .venv-gpu build *.egg-info
