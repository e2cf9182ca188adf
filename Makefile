# make demo      install, speak a sentence into hello.wav, show the plan and the figures
# make test      install test requirements; lint, types, tests
# make test-slow full-size checkpoints, soak, browser
# make test-weights  only the tests on real weights of Kokoro
# make test-lowest  the lowest versions of all dependencies, with each installed Python from 3.10 to 3.13
# make meter     word errors, sound, speed and memory of every voice, compared with other engines; a plot in out/
# make coverage  the tests under coverage, with the size of the code and the time of the tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
# Processes that run the tests; 0 runs them all in one.
TEST_WORKERS ?= 2
# Weights and engines for the benchmarks.
export METER ?= $(abspath $(VENV))/meter
SENTENCE := Hello! This is Saywell, speaking from your own machine. It found out what the machine is, and made a plan.

.PHONY: demo test test-slow test-weights test-lowest coverage meter lint format clean

demo: $(VENV)/.ready-demo
	@$(BIN)/saywell say "$(SENTENCE)" --output hello.wav --verbose
	@echo "Written to hello.wav. Next:"
	@echo "  $(BIN)/saywell say \"Your own words.\" -o words.mp3"
	@echo "  $(BIN)/saywell serve      # an OpenAI-compatible API at http://127.0.0.1:8000/v1"
	@echo "  $(BIN)/saywell doctor     # what is installed, what is missing, what to do"

test: $(VENV)/.ready-test $(METER)/.ready-listen lint
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal $(PYTEST_ARGS)

test-slow: $(VENV)/.ready-test $(METER)/.ready-listen
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)
	$(BIN)/python -m pytest -m hypothesis --hypothesis-profile=default $(PYTEST_ARGS)

test-weights: $(VENV)/.ready-test $(METER)/.ready-listen
	$(BIN)/python -m pytest -m weights $(PYTEST_ARGS)

coverage: $(VENV)/.ready-test $(METER)/.ready-listen
	@$(BIN)/python scripts/count --coverage

test-lowest:
	@$(PYTHON) scripts/lowest

meter: $(VENV)/.ready-test
	@$(BIN)/python scripts/meter others
	@mkdir -p out
	$(BIN)/python -m benchmarks.quality --others --plot out/quality.png

lint: $(VENV)/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.ready-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# On Debian without python3-venv, that package is installed; otherwise nothing outside this directory is changed.
$(BIN)/python:
	@PYTHON=$(PYTHON) sh scripts/system-packages
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.ready-demo: pyproject.toml | $(BIN)/python
	@echo "Installing saywell into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.ready-test: pyproject.toml | $(BIN)/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test]"
	@touch $@ $(VENV)/.ready-demo

$(METER)/.ready-listen: scripts/meter | $(BIN)/python
	@$(BIN)/python scripts/meter listen
	@touch $@

clean:
	rm -rf $(VENV) .venv-lowest build dist hello.wav .pytest_cache .mypy_cache .ruff_cache
