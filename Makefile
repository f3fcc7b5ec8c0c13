# make demo    set up, run kmeans and dkm_full on synthetic speech, compare them
# make test    set up, lint, check types, run the tests in three processes (CI runs this)
# make test-all   the same with the long tests (random kills, faults) and coverage: more than an hour
# make bench   set up the peers, measure the quantizer and a training step (BENCH=names and options)
# make ui      open MLflow on what `make demo` logged (UI_STORAGE=runs/spoken_digits for others)
# make clean   delete the environment, caches and the demo's outputs

PYTHON ?= $(shell command -v python3.11 || command -v python3)
UI_STORAGE ?= runs/demo
STAMP := .venv/.complete
BENCH_STAMP := .venv/.bench

# Images often forbid Python to keep what it compiles: each of many processes would compile PyTorch.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-all lint types tests bench ui clean
.DELETE_ON_ERROR:

demo: $(STAMP)
	.venv/bin/dkm run demo

test: lint
	@echo "== types, and tests in three processes, two of which start Ray: minutes"
	@$(MAKE) --no-print-directory --jobs=2 types tests

test-all: lint
	@echo "== types, all tests and what they cover: more than an hour"
	@# Not in `make test`: to count lines takes three quarters of what unit tests take without.
	@$(MAKE) --no-print-directory --jobs=2 types tests PYTEST_ARGS='-m "" --hypothesis-profile soak --cov'

lint: $(STAMP)
	@echo "== lint"
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports --no-logo

types:
	.venv/bin/mypy

tests:
	.venv/bin/python -m pytest -n 3 $(PYTEST_ARGS)

bench: $(BENCH_STAMP)
	PYTHONPATH=tests .venv/bin/python -m benchmarks $(BENCH)

ui: $(STAMP)
	.venv/bin/python -m pipeline ui --storage $(UI_STORAGE)

$(STAMP): pyproject.toml constraints.txt
	@echo "== setting up .venv, once: a few minutes and several GB, mostly PyTorch"
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" \
		|| { echo "Python 3.11 or later is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	@# Python compiles a file when it imports it; compiling all 24,000 now would take half a minute.
	.venv/bin/pip install --no-compile --progress-bar off -c constraints.txt -e ".[test]"
	@touch $@

$(BENCH_STAMP): $(STAMP)
	.venv/bin/pip install --no-compile --progress-bar off -c constraints.txt -e ".[bench]"
	@touch $@

clean:
	rm -rf .venv runs/demo dist .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.grimp_cache .import_linter_cache .coverage*
