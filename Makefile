# Two commands set everything up on a fresh machine: `make demo` and `make test`. Both use the private environment .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
CONSTRAINTS ?= -c constraints.txt
# A thread a worker: as many workers as cores would get in each other's way with more, and take twice the time.
PYTEST := HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: demo lint test quick docs constraints clean

# The versions are those of constraints.txt: what was released since then cannot break a fresh clone.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) --editable '.[test]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/figment demo

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(PYTEST)

# The everyday loop.
quick: $(VENV)/installed
	$(PYTEST) -m 'not slow'

# The pages as a site, in build/docs; what is odd in them is an error.
docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) --editable '.[docs]'
	HF_HUB_OFFLINE=1 $(BIN)/python -m sphinx -q -E -W --keep-going -c docs . build/docs

define CONSTRAINTS_HEADER
# Versions that the tests are known to pass with. Made by `make constraints`: a new environment, `pip install .[test,docs]`, pip freeze.
# torch's CUDA wheels and triton are left out: they exist on Linux alone, and each torch pins its own.
endef
export CONSTRAINTS_HEADER

constraints:
	rm -rf build/constraints
	$(PYTHON) -m venv build/constraints
	build/constraints/bin/python -m pip install --quiet '.[test,docs]'
	echo "$$CONSTRAINTS_HEADER" > build/constraints.txt
	build/constraints/bin/python -m pip freeze | grep -vE '^(figment-vision|nvidia-|cuda-|triton)' >> build/constraints.txt
	mv build/constraints.txt constraints.txt
	rm -rf build/constraints

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache
