# Everything here makes its own environment in .venv; nothing else is needed than Python 3.11 or later and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Processes that run tests side by side, each with gloo worlds of its own: one more than processors, for tests often wait.
JOBS ?= $(shell expr $$(nproc 2>/dev/null || echo 2) + 1)
REPORTS ?= reports
MINUTES ?= 5
TURNS ?= 15
unexport PYTHONDONTWRITEBYTECODE  # every world's template imports the package: its bytecode is kept

.PHONY: help verify verify-launched cases bugs bug-table mutants train costs claims order two-level faults faults-in-a-row soak bench bench-all package
.PHONY: sample pictures precision test test-launched test-long lint format clean

help:  ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps open_clip_torch
	touch $@

verify: $(READY)  ## Check our loss in every form and open_clip's on real gloo processes, plant known bugs; write reports/
	$(BIN)/siglip-verify check --bugs quick --report-dir $(REPORTS)

verify-launched: $(READY)  ## Check our loss on four ranks that torchrun starts
	$(BIN)/torchrun --standalone --nproc-per-node 4 -m siglip_verify check --examples 24 --seed 0

cases: $(READY)  ## Look for a false alarm in 5,120 cases of right losses: ours and open_clip's, every exchange, W = 1..8
	$(BIN)/siglip-verify check --loss siglip_verify.loss:SigLipLoss --loss open_clip --examples 640 --report-dir $(REPORTS)

bugs: $(READY)  ## Plant every known bug, hold right losses against the same check, count what weaker checkers miss
	$(BIN)/siglip-verify bugs

bug-table: $(READY)  ## Make docs/known_bugs.md and the README's table from the catalogue at three seeds
	$(BIN)/siglip-verify bugs --seed 0 --seed 1 --seed 2 --format json > .bugs.json
	$(BIN)/python docs/make_bug_table.py < .bugs.json
	rm .bugs.json

mutants: $(READY)  ## Change what judges a loss, one small change at a time, and see that something notices; make docs/mutants.md; hours
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt mutmut
	PATH="$(abspath $(BIN)):$$PATH" CI=1 HYPOTHESIS_PROFILE=mutants OMP_NUM_THREADS=1 $(BIN)/mutmut run
	$(BIN)/python docs/make_mutants.py

faults: $(READY)  ## Set off every kind of fault at every exchange and W = 2, 3, 4; write the matrix of docs/faults.md
	$(BIN)/siglip-verify faults --timeout 1.5 --format json > .faults.json
	$(BIN)/python docs/make_faults.py matrix < .faults.json
	rm .faults.json

faults-in-a-row: $(READY)  ## Set off 200 random faults, see that nothing is left behind; write that into docs/faults.md
	$(BIN)/siglip-verify faults --in-a-row 200 --timeout 1.5 --format json > .faults-in-a-row.json
	$(BIN)/python docs/make_faults.py in-a-row < .faults-in-a-row.json
	rm .faults-in-a-row.json

soak: $(READY)  ## Run random cases and random faults for MINUTES minutes, and see that nothing leaks
	$(BIN)/siglip-verify soak --minutes $(MINUTES)

# What to measure, such as ONLY='steps/8x64 memory'; all that is short if empty.
ONLY ?=

train: $(READY)  ## Train two towers in every form beside one process; write reports/train.json and train.svg
	$(BIN)/siglip-verify train --report-dir $(REPORTS)

costs: $(READY)  ## Train them with known bugs planted, some minutes; write docs/pictures/costs.svg
	$(BIN)/siglip-verify train --bugs --report-dir $(REPORTS)
	cp $(REPORTS)/costs.svg docs/pictures/

claims: $(READY)  ## Check what is said of the loss, statement by statement; write docs/claims.md
	$(BIN)/siglip-verify claims --format markdown > $(REPORTS)/claims.md
	mv $(REPORTS)/claims.md docs/

order: $(READY)  ## Hold the simulator's order of the exchanges against measured steps at W = 2, 4, 8; make docs/order.json; minutes
	$(BIN)/siglip-verify calibrate --world-sizes 2,4,8 --turns 41 --no-validate \
		--output $(REPORTS)/loopback.toml --json $(REPORTS)/calibration.json --force || [ $$? -eq 1 ]  # 1: another order, which the page says
	$(BIN)/python docs/make_order.py < $(REPORTS)/calibration.json

two-level: $(READY)  ## Model an exchange in two levels beside today's; write its table in docs/simulate.md
	$(BIN)/python docs/make_two_level.py

bench: $(READY)  ## Measure our loss against open_clip's, and the tool itself; write reports/bench.json and charts
	$(BIN)/siglip-verify bench $(foreach name,$(ONLY),--only $(name)) --report-dir $(REPORTS)

bench-all: $(READY)  ## Measure all that docs/benchmarks.md shows in one run of some twenty minutes (TURNS=15), and write it and its charts
	$(BIN)/siglip-verify bench --shown --turns $(TURNS) --report-dir $(REPORTS) || [ $$? = 1 ]  # what is missed is shown, too
	$(BIN)/python docs/make_benchmarks.py $(REPORTS)/bench.json

test: $(READY)  ## Run the tests
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadgroup

test-launched: $(READY)  ## Run the long tests of ranks that a launcher starts
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadgroup -m long tests/world/joined tests/project/test_readme.py

test-long: $(READY)  ## Run the long matrices and timings that `make test` leaves out, and every test on ten times the examples
	$(BIN)/python -m pytest -m 'long and alone'
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadgroup -m 'long and not alone'
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadgroup --hypothesis-profile long

package:  ## Build sdist and wheel, and use the wheel from an empty environment outside the repository
	PYTHON=$(PYTHON) .ci/package

sample: $(READY)  ## Make the sample report, reports/sample/, from a real run
	$(BIN)/siglip-verify check --profile ci --examples 40 --bugs quick --report-dir reports/sample

pictures: $(READY)  ## Make the pictures of the README and of docs/ from real runs and the plan
	$(BIN)/python docs/make_pictures.py

precision: $(READY)  ## Measure the table of docs/precision.md
	$(BIN)/python docs/make_precision.py

lint: $(READY)  ## Check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: $(READY)  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## Remove the environment, caches and generated reports
	rm -rf $(VENV) build dist mutants .pytest_cache .ruff_cache .hypothesis .benchmarks .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find $(REPORTS) -mindepth 1 -maxdepth 1 ! -name README.md ! -name sample -exec rm -rf {} +
