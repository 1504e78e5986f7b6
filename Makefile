# make run [ARGS="--name SplitMNIST"]   install what is needed, then run an experiment (the default one)
# make test                             install what tests need, then lint, types and tests
# make test-fast                        the same without what takes long: while you work
# make bench [ARGS="--whole"]           time the reference and the fast engines (docs/performance.md)
# make bench-gpu                        the tests that need a GPU, and what it makes of steps and runs
# make fuzz [FUZZ_SECONDS=600]         fuzz every reader of foreign files for so long (docs/reliability.md)
# make clean                            remove what was installed and the caches; results stay

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
FUZZ_SECONDS ?= 60
FUZZ_TARGETS := configuration override result checkpoint npz copy
BIN := $(VENV)/bin

.PHONY: run test test-fast bench bench-gpu fuzz fuzz-install clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

run: $(VENV)/run.stamp
	$(BIN)/python run_exps.py $(ARGS)

test: $(VENV)/test.stamp
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest -n auto --dist loadfile

test-fast: $(VENV)/test.stamp
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow"

bench: $(VENV)/run.stamp
	$(BIN)/python tests/speed/bench.py $(ARGS)

bench-gpu: $(VENV)/test.stamp
	$(BIN)/python -m pytest -m gpu
	$(BIN)/python tests/speed/gpu.py $(ARGS)

fuzz-install: $(VENV)/fuzz.stamp

fuzz: $(VENV)/fuzz.stamp
	set -e; for target in $(FUZZ_TARGETS); do \
	    $(BIN)/python tests/fuzz/fuzz.py $$target -max_total_time=$(FUZZ_SECONDS) -verbosity=0 -print_final_stats=1; \
	done

# A stamp is written only after everything before it has worked.
$(VENV)/venv.stamp:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv --clear $(VENV)
	touch $@

$(VENV)/run.stamp: $(VENV)/venv.stamp requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/test.stamp: $(VENV)/venv.stamp $(wildcard requirements*.txt)
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-dev.txt
	touch $@

$(VENV)/fuzz.stamp: $(VENV)/venv.stamp requirements.txt requirements-fuzz.txt
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-fuzz.txt
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
