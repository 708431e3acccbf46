# Assetlane. `make` prints this help; every target sets up what it needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
FILE   ?=
SEED   ?=
ARGS   ?=

.PHONY: help setup proto released-proto mime-db fix check test test-wheel test-faults test-languages demo run bench lock clean

help:  ## print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-find-links --no-emit-index-url --extra server --extra local --extra cli --extra heif --extra video --extra otel --extra dev pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-find-links --no-emit-index-url --constraint requirements/dev.txt --extra server --extra heif --extra otel pyproject.toml -o requirements/server.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-find-links --no-emit-index-url --constraint requirements/dev.txt --extra server --extra local --extra cli --extra heif --extra video --extra otel --extra dev --extra bench pyproject.toml -o requirements/bench.txt
	echo 'protobuf>=7,<8' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-find-links --no-emit-index-url - -o requirements/protobuf-next.txt

fix: setup  ## format, and mend what a linter can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format -w protos

check: setup  ## ruff, mypy, buf lint and breaking, import-linter, drift of stubs and docs/api.md, links and commands of the pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/buf lint protos
	$(BIN)/buf format -d --exit-code protos
	$(BIN)/buf breaking protos --against protos/released.binpb
	$(BIN)/lint-imports
	$(BIN)/python protos/generate.py --check
	$(BIN)/python protos/reference.py --check
	$(BIN)/pytest -q tests/test_docs.py tests/test_readme.py

test: setup  ## all tests but the fault suite and other languages, on the embedded MongoDB and S3 (ARGS=… for pytest)
	$(BIN)/pytest -n 2 -m 'not faults and not wheel and not languages' $(ARGS)

# What is installed is what is tested: the tests' own imports come from the wheel, and so do those of every process
# that they start. The README's program runs where nothing is but the wheel and what it brings.
test-wheel: setup  ## build wheel and sdist, and test what they hold (needs the package registry)
	rm -rf dist $(VENV)/wheel $(VENV)/plain
	$(BIN)/python -m hatchling build --directory dist
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(VENV)/wheel dist/*.whl
	$(PYTHON) -m venv $(VENV)/plain
	$(VENV)/plain/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	PYTHONPATH=$(CURDIR)/$(VENV)/wheel $(BIN)/pytest -n 2 -o pythonpath='$(VENV)/wheel .' $(ARGS) \
		tests/wheel tests/images tests/journeys/test_uploading.py tests/journeys/test_client.py \
		tests/journeys/test_command.py tests/journeys/test_server_cuts.py tests/test_server_command.py

test-faults: setup  ## the longer crash and fault suite (SEED=… replays a test; FAULTS_SCALE=1: full size)
	$(BIN)/pytest -m faults $(if $(SEED),--seed $(SEED)) $(ARGS)

test-languages: setup  ## the example clients in Go, TypeScript, Java and Python, each with its own toolchain
	$(BIN)/pytest -m languages --durations=5 $(ARGS)

demo: export DEMO_FILE = $(value FILE)
demo: setup  ## upload a picture with its cuts while you watch (FILE="my holiday.mp4" for a file of yours, of any type)
	@$(BIN)/python -m examples.demo $${DEMO_FILE:+-- "$$DEMO_FILE"}

run: setup  ## serve on 127.0.0.1:50151 with an embedded MongoDB and S3, data in .assetlane/
	@exec $(BIN)/assetlane-server local

bench: $(VENV)/.bench-ready  ## measure, side by side with floors and peers
	$(BIN)/python -m bench

$(VENV)/.bench-ready: $(VENV)/.ready requirements/bench.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@

clean:  ## remove what set-up and runs left
	rm -rf $(VENV) .assetlane dist examples/*/bin examples/*/dist examples/*/node_modules examples/*/target .mypy_cache .ruff_cache .pytest_cache .hypothesis

proto: setup  ## generate the typed stubs, docs/api.md and, where Go is installed, the stubs of examples/go
	$(BIN)/python protos/generate.py
	$(BIN)/python protos/reference.py
	if command -v go > /dev/null; then cd examples/go && PATH="$$PATH:$(CURDIR)/$(BIN)" go generate .; fi

released-proto: setup  ## remember protos/ as the released contract that `make check` compares with
	$(BIN)/buf build protos -o protos/released.binpb

mime-db:  ## take over npm's table of media types (needs npm and its registry)
	rm -rf $(VENV)/mime-db && mkdir -p $(VENV)/mime-db
	cd $(VENV)/mime-db && npm pack --silent mime-db@1.54.0 && tar xzf mime-db-*.tgz
	$(BIN)/python client/update_mime_db.py $(VENV)/mime-db/package
