.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

# the processes that tests start would compile the code anew
export PYTHONDONTWRITEBYTECODE :=

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORE := $(VENV)/.core
DEV := $(VENV)/.dev
BENCH := $(VENV)/.bench

PROTO_OUT := protos/python/herald
PROTOS := $(shell find protos/herald -name '*.proto' | sort)
SERVICES := $(filter %_service.proto,$(PROTOS))
DESCRIPTORS := $(VENV)/herald.binpb

EXAMPLES := protos/examples
NODE := $(EXAMPLES)/node
GO := $(EXAMPLES)/go
JAVA := $(EXAMPLES)/java
# those whose builder is on this machine
CLIENTS = client-python $(if $(shell command -v npm),client-node) $(if $(shell command -v go),client-go) \
  $(if $(shell command -v mvn),client-java) $(if $(shell command -v cargo),client-rust)

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*##/\1\t/' | expand -t 18

demo: $(CORE)  ## Run the main job on a fresh machine: 10,000 users, one campaign
	$(BIN)/python -m tests.tools.demo

run: $(CORE)  ## Run both servers on ./data, to be used
	$(BIN)/herald dev

test: $(DEV)  ## Run the tests, on SQLite and on a real PostgreSQL, but those that take long
	$(BIN)/pytest -q -n 2 --dist loadgroup -m "not nightly"

nightly: $(DEV)  ## Run the tests that take long, and those of properties with more examples
	TEST_EXAMPLES=30 $(BIN)/pytest -q -n 4 --dist loadgroup -m "(nightly or property) and not alone"
	$(BIN)/pytest -q -m alone

coverage: $(DEV)  ## Run the tests of make test, and print the branch coverage of each package
	$(BIN)/pytest -q -n 2 --dist loadgroup -m "not nightly" --cov --cov-report=
	@for package in campaign_service chat_store herald_rpc segment_service; do \
	  printf '%-17s' $$package; \
	  $(BIN)/coverage report --include="$$package/*" --format=total --precision=1; done

check: format-check lint types imports proto-check test  ## All that CI checks

format: $(DEV)  ## Format the code and the contracts
	$(BIN)/ruff format .
	$(BIN)/buf format -w protos

format-check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/buf format -d --exit-code protos

lint: $(DEV)  ## Lint the code and the contracts
	$(BIN)/ruff check .
	$(BIN)/buf lint protos

types: $(DEV)  ## Check the types
	$(BIN)/mypy

imports: $(DEV)  ## Check the layers
	$(BIN)/lint-imports

proto: $(DEV)  ## Generate the Python stubs from the contracts
	@rm -rf $(VENV)/proto && $(MAKE) -s generate OUT=$(VENV)/proto
	@rm -rf $(PROTO_OUT) && mv $(VENV)/proto/herald $(PROTO_OUT)

proto-check: $(DEV)  ## Fail when the checked-in stubs are not those of the contracts
	@rm -rf $(VENV)/proto && $(MAKE) -s generate OUT=$(VENV)/proto
	@diff -r -x __pycache__ $(VENV)/proto/herald $(PROTO_OUT) || (echo "run: make proto"; exit 1)

proto-breaking: $(DEV)  ## Compare the contracts with those of the main branch
	$(BIN)/buf breaking protos --against '.git#branch=main,subdir=protos'

generate:
	@mkdir -p $(OUT)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=$(OUT) --mypy_out=quiet:$(OUT) $(PROTOS)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m grpc_tools.protoc -Iprotos --grpc_python_out=$(OUT) --mypy_grpc_out=quiet:$(OUT) $(SERVICES)
	@touch $(OUT)/herald/py.typed

clients: $(CLIENTS)  ## Generate and build the examples in each language that is here
	@echo "built: $(CLIENTS:client-%=%)"

client-python: $(DEV)

client-node: $(NODE)/gen/herald

client-go: $(GO)/gen/campaign
	@cd $(GO) && go build -o bin/ ./...

client-java: $(JAVA)/target/classes/herald/example/Steps.class

client-rust:
	@cd $(EXAMPLES)/rust && cargo build -q

# the contracts with all that they import, and with ErrorInfo, which errors carry
$(DESCRIPTORS): $(PROTOS) | $(DEV)
	@$(BIN)/python -m grpc_tools.protoc --include_imports --include_source_info --descriptor_set_out=$@ \
	  -Iprotos -I$$($(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))") \
	  $(PROTOS) google/rpc/error_details.proto

$(NODE)/node_modules: $(NODE)/package.json $(NODE)/package-lock.json
	@cd $(NODE) && npm ci --loglevel=error --no-audit --no-fund && touch node_modules

$(NODE)/gen/herald: $(NODE)/buf.gen.yaml $(DESCRIPTORS) $(NODE)/node_modules
	@cd protos && ../$(BIN)/buf generate ../$(DESCRIPTORS) --template examples/node/buf.gen.yaml \
	  --path herald --path google/rpc

$(GO)/gen/campaign: $(GO)/buf.gen.yaml $(GO)/go.sum $(DESCRIPTORS)
	@cd protos && ../$(BIN)/buf generate ../$(DESCRIPTORS) --template examples/go/buf.gen.yaml --path herald
	@touch $@

$(JAVA)/target/classes/herald/example/Steps.class: $(JAVA)/pom.xml $(wildcard $(JAVA)/src/main/java/herald/example/*) $(PROTOS)
	@cd $(JAVA) && mvn -q -B compile
	@touch $@

# make faults SEEDS=500 JOBS=2; one again: make faults SEED=17; make faults POINTS=1; MANY=300000
faults: $(DEV)  ## Play seeds of faults, each a campaign that must outlast them
	GRPC_ENABLE_FORK_SUPPORT=0 $(BIN)/python -m tests.faults --seeds $(or $(SEEDS),200) --jobs $(or $(JOBS),1) \
	  $(if $(SEED),--seed $(SEED)) $(if $(POINTS),--points) $(if $(MANY),--many $(MANY))

charts: $(DEV)  ## Render the Helm chart with many values, for the tests; needs helm
	$(BIN)/python -m tests.deploy.render

bench: $(DEV)  ## Measure campaigns, segments and the import against the bare drivers
	$(BIN)/python -m tests.bench

soak: TARGETS ?= 10000000
soak: DATABASE ?= sqlite
soak: $(BENCH)  ## Send to 10,000,000 channels, and plot rate and memory into bench-results
	$(BIN)/python -m tests.bench --scenario soak --users $(TARGETS) --database $(DATABASE)

clean:  ## Remove the environment, the data and all caches
	rm -rf $(VENV) data bench-results .coverage* $(NODE)/node_modules $(EXAMPLES)/*/gen $(EXAMPLES)/*/bin $(EXAMPLES)/*/target \
	  .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# A Debian without python3-venv has no ensurepip: there the system's pip fills the environment.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || \
	  ($(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $@ install -q pip)

$(CORE): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $(CORE) $@

$(BENCH): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev,bench]'
	@touch $(CORE) $(DEV) $@

.PHONY: clients client-python client-node client-go client-java client-rust
.PHONY: charts help demo run test nightly coverage check format format-check lint types imports proto proto-check proto-breaking generate bench soak faults clean
