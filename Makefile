# `make demo` and `make test` are all that a fresh clone needs; everything is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test check slow lint types contracts benchmarks clean

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv \
	  && $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]' \
	  || $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(INSTALLED)
	PATH="$(CURDIR)/$(BIN):$$PATH" sh sample_data/demo.sh demo

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 0

check: lint types contracts test

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

contracts: $(INSTALLED)
	$(BIN)/lint-imports

slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile --max-worker-restart 0

clean:
	rm -rf .venv demo build *.egg-info
