# Everything sets itself up from nothing, in this folder. PYTHON may name another interpreter (3.11 or later).
PYTHON ?= python3
JUDGE := .venv-judge
DEV := .venv
IMAGE ?= samples/real samples/fake
DATA ?= data/manifest.csv
NAME ?=
OUT ?= .runs/$(NAME)

.PHONY: demo test check format bench torture serve-bench samples detector study studies lock clean

demo: $(JUDGE)/ready ## judge the sample pictures, or IMAGE=…
	$(JUDGE)/bin/assay scan $(IMAGE)

test: $(DEV)/ready check ## formatter, linter, types, imports, tests
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(DEV)/bin/python -m pytest -n 2

check: $(DEV)/ready
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/ruff check .
	$(DEV)/bin/mypy
	$(DEV)/bin/lint-imports

format: $(DEV)/ready
	$(DEV)/bin/ruff format .
	$(DEV)/bin/ruff check --fix .

bench: $(DEV)/ready ## how fast it is, in one table; DATA=… for what precision does to verdicts, ARGS="--quick", …
	$(DEV)/bin/python bench/table.py $(strip $(if $(filter-out file,$(origin DATA)),--data $(DATA)) $(ARGS))

torture: $(DEV)/ready ## 1,000 kills of a scan, 100,000 mutated files
	$(DEV)/bin/python bench/kills.py --kills 1000
	$(DEV)/bin/python bench/mutate.py --count 100000

serve-bench: $(DEV)/ready ## load, kills and fuzzing of the server
	$(DEV)/bin/python bench/serve_load.py
	$(DEV)/bin/python bench/serve_kills.py --kills 100
	$(DEV)/bin/python bench/serve_fuzz.py

samples: $(DEV)/ready ## train the small generator on DATA and make the sample fakes
	$(DEV)/bin/python bench/samples.py --data $(DATA) --out samples

detector: $(DEV)/ready ## train, measure and install the detector that ships, from DATA
	$(DEV)/bin/python bench/ship.py --data $(DATA)

study: $(DEV)/ready ## list the studies, or run NAME=… on DATA; ARGS="--quick", "--minutes 60 --seeds 3", …
	$(DEV)/bin/assay study $(if $(NAME),$(NAME) --data $(DATA) --out $(OUT)) $(ARGS)

studies: $(DEV)/ready ## run all studies on DATA, two at a time, one thread each; .runs/studies has tables and figures
	$(DEV)/bin/python bench/studies.py $(DATA) .runs/studies $(ARGS)

lock: $(DEV)/uv ## pin what the two environments hold, with hashes and without addresses
	$(DEV)/bin/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11 \
		pyproject.toml -o requirements/judge.txt
	$(DEV)/bin/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11 \
		pyproject.toml --extra all --group dev -o requirements/dev.txt

$(JUDGE)/ready: requirements/judge.txt requirements/build.txt pyproject.toml
	$(PYTHON) -m venv $(JUDGE)
	$(JUDGE)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/judge.txt -r requirements/build.txt
	$(JUDGE)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

$(DEV)/uv:
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	touch $@

$(DEV)/ready: $(DEV)/uv requirements/dev.txt pyproject.toml
	$(DEV)/bin/uv pip install --quiet --compile-bytecode --python $(DEV)/bin/python --require-hashes -r requirements/dev.txt
	$(DEV)/bin/uv pip install --quiet --python $(DEV)/bin/python --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf $(JUDGE) $(DEV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
