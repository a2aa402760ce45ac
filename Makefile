# One command each. `make help` lists them.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
STAMP   = $(VENV)/.installed
HELM    = .cache/helm/bin/helm
SEED   ?= 1
N      ?= 1000
F      ?= 60

.PHONY: help install demo test check format bench faults clean

help:            ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

install: $(STAMP) ## the environment, with everything tests and demo need

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)   ## one call, end to end, live
	$(BIN)/callbridge demo

check: $(STAMP)  ## format, lint, types, import contracts, budgets
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/budgets.py

$(HELM):         # the chart's tests; without Go they are skipped, and say so
	@command -v helm >/dev/null || ! command -v go >/dev/null || \
		GOBIN=$(CURDIR)/$(dir $(HELM)) timeout 900 go install helm.sh/helm/v3/cmd/helm@v3.19.0 || \
		echo "helm could not be installed: the chart's tests will be skipped"

test: check $(HELM) ## check, then every test (REQUIRE_KAFKA=1: Apache Kafka missing is a failure)
	$(BIN)/pytest

format: $(STAMP) ## let ruff write
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)  ## measurements, with a floor beside each
	$(BIN)/python -m tests.bench

faults: $(STAMP) ## a fault campaign: make faults SEED=1 N=1000 F=60; its report goes to reports/
	$(BIN)/python -m tests.faults --seed $(SEED) --commands $(N) --faults $(F)

clean:           ## forget environment and caches
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
