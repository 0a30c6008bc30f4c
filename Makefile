# make demo    everything from nothing to a table of processes of a real guest
# make test    types and style, then the test suite (real guests included) on two processes; WORKERS=0 runs it on one
# make check   types and style only
# make coverage  the test suite again, with what it covers: a table, and coverage.xml
# make stubs   what type checkers know about the tools' methods, written anew
# make docs    docs/tools and the man page, written anew from the tools' and the parser's own descriptions
# make examples  the examples of docs/tools, recorded anew on a sample image
# make bench   timings, written to benchmarks/RESULTS.md (not beside other tools: python -m benchmarks.peers downloads them)
# make fidelity  how many files are equal to the byte, on every kernel
# make clean   the virtual environment; images and kernels stay in the user's cache

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
# a file's tests stay together: they share what they make
PYTEST = $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile
NATIVE := hybridbridge_vol/bridge/taint/_taint.so
ENGINE := $(wildcard hybridbridge_vol/bridge/taint/native/*.[ch])
SOURCES := setup.cfg setup.py pyproject.toml build_support/native.py build_support/backend.py \
	$(ENGINE) $(shell find hybridbridge_vol plugins symbols -name '*.py' -o -name '*.toml' -o -path '*/templates/*') docs/man/hb.1

.PHONY: demo test test-all coverage check stubs docs examples bench fidelity clean system

demo: $(VENV)/installed $(NATIVE)
	@$(BIN)/python -m samples.demo samples/demo
	$(BIN)/vol -q -f samples/demo/dump.raw hb.ps

test: check $(NATIVE)
	$(PYTEST) $(ARGS)

test-all: $(VENV)/installed-test $(NATIVE)
	$(PYTEST) -m "slow or not slow" $(ARGS)

coverage: $(VENV)/installed-test $(NATIVE)
	$(PYTEST) --cov --cov-report=term-missing:skip-covered --cov-report=xml $(ARGS)

check: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

stubs: $(VENV)/installed
	$(BIN)/python -m build_support.stubs

docs: $(VENV)/installed
	$(BIN)/python -m build_support.tool_pages
	$(BIN)/python -m build_support.man_page

examples: $(VENV)/installed $(NATIVE)
	$(BIN)/python -m build_support.tool_examples
	$(BIN)/python -m build_support.tool_pages

bench: $(VENV)/installed-test $(NATIVE)
	$(BIN)/python -m benchmarks.commands
	$(BIN)/python -m benchmarks.busy
	$(BIN)/python -m benchmarks.paper
	$(BIN)/python -m benchmarks.memos
	$(BIN)/python -m benchmarks.batch
	$(BIN)/python -m benchmarks.files
	$(BIN)/python -m benchmarks.yara
	$(BIN)/python -m benchmarks.native

fidelity: $(VENV)/installed $(NATIVE)
	$(BIN)/python -m benchmarks.fidelity

system:
	@sh samples/system.sh

$(VENV)/bin/pip: | system
	@echo "making the virtual environment"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/pip $(SOURCES)
	@echo "installing the package"
	@$(BIN)/pip install --quiet --disable-pip-version-check . pyelftools
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	@$(BIN)/pip install --quiet --disable-pip-version-check '.[test]'
	@touch $@

# the tests run the package from here: the native part once more, in place
$(NATIVE): $(ENGINE) build_support/native.py | $(VENV)/bin/pip
	@command -v cc >/dev/null || $(BIN)/pip install --quiet --disable-pip-version-check ziglang
	@$(BIN)/python build_support/native.py

clean:
	rm -rf $(VENV) build *.egg-info $(NATIVE)
