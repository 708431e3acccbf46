# Assetlane. `make` prints this help; every target sets up what it needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
FILE   ?=

.PHONY: help setup proto fix check test test-faults demo run bench lock clean

help:  ## print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready  ## make .venv with everything that is pinned

$(VENV)/.ready: requirements/dev.txt requirements/protobuf-next.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "assetlane needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 setup")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --upgrade --target $(VENV)/protobuf-next -r requirements/protobuf-next.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

lock:  ## resolve the pinned requirements anew (needs the package registry)
	$(BIN)/python -m pip install --quiet uv==0.13.9
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-find-links --no-emit-index-url --extra server --extra local --extra cli --extra dev pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-find-links --no-emit-index-url --constraint requirements/dev.txt --extra server --extra local --extra cli --extra dev --extra bench pyproject.toml -o requirements/bench.txt
	echo 'protobuf>=7,<8' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-find-links --no-emit-index-url - -o requirements/protobuf-next.txt

STUBS := client/assetlane/v1

proto: setup  ## generate the typed stubs from protos/ into client/assetlane/v1
	@mkdir -p $(STUBS)
	@rm -f $(STUBS)/*_pb2*.py $(STUBS)/*_pb2*.pyi
	$(BIN)/python -m grpc_tools.protoc -I protos \
	  --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --python_out=client --grpc_python_out=client --mypy_out=client --mypy_grpc_out=client \
	  protos/assetlane/v1/*.proto

released-proto: setup  ## remember protos/ as the released contract that `make check` compares with
	$(BIN)/buf build protos -o protos/released.binpb
