# Assetlane. `make` prints this help; every target sets up what it needs.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
FILE   ?=
SEED   ?=
ARGS   ?=
STORES ?=

.PHONY: help setup dist proto web-proto released-proto mime-db fix check test test-wheel test-faults test-stores test-real test-languages test-web ci-long gallery gallery-images demo run bench lock clean

help:  ## print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready  ## make .venv with everything that is pinned, development tools included

$(VENV)/.ready: requirements/dev.txt requirements/protobuf-next.txt requirements/uv.txt pyproject.toml
	@$(PYTHON) requirements/install.py $(VENV) dev
	@touch $@ $(VENV)/.run-ready

# What `run` and `demo` need, a third of it all. With `setup` done it is there already.
$(VENV)/.run-ready: requirements/run.txt requirements/uv.txt pyproject.toml
	@$(PYTHON) requirements/install.py $(VENV) run
	@touch $@

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-find-links --no-emit-index-url
PINNED  = $(COMPILE) --constraint requirements/dev.txt

lock:  ## resolve the pinned requirements again (needs the package registry)
	$(BIN)/python -m pip install --quiet uv==0.13.9
	$(COMPILE) --extra server --extra local --extra cli --extra heif --extra video --extra otel --extra dev pyproject.toml -o requirements/dev.txt
	$(PINNED) --extra server --extra local --extra cli --extra heif --group editable pyproject.toml -o requirements/run.txt
	$(PINNED) --extra video pyproject.toml -o requirements/video.txt
	$(PINNED) --extra server --extra heif --extra otel pyproject.toml -o requirements/server.txt
	$(PINNED) --extra server --extra local --extra cli --extra heif --extra video --extra otel --extra dev --extra bench pyproject.toml -o requirements/bench.txt
	$(COMPILE) --group installer -o requirements/uv.txt
	echo 'protobuf>=7,<8' | $(COMPILE) - -o requirements/protobuf-next.txt

fix: setup  ## format, and fix what a linter can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format -w protos

check: setup  ## ruff, mypy, buf lint and breaking, import-linter, drift of stubs, docs/api.md, docs/openapi.json and the built gallery, links, commands and words of the pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/buf lint protos
	$(BIN)/buf format -d --exit-code protos
	$(BIN)/buf breaking protos --against protos/released.binpb
	$(BIN)/lint-imports
	$(BIN)/python protos/generate.py --check
	$(BIN)/python protos/reference.py --check
	$(BIN)/python protos/openapi.py --check
	$(BIN)/python protos/descriptor.py --check
	$(BIN)/python protos/state_table.py --check
	$(BIN)/pytest -q tests/test_docs.py tests/test_readme.py tests/test_words.py
	@$(BIN)/python web/gallery/check_built.py

test: setup  ## all tests but the fault suite, other languages and the web client, on the embedded MongoDB and S3 (ARGS=… for pytest)
	$(BIN)/pytest -n 2 --dist worksteal -m 'not faults and not wheel and not languages and not web' $(ARGS)

dist: $(VENV)/.run-ready  ## build the wheel and the sdist into dist/
	rm -rf dist
	$(BIN)/python -m hatchling build --directory dist

# What is installed is what is tested: the tests' own imports come from the wheel, and so do those of every process
# that they start. The README's program runs where nothing is but the wheel and what it brings.
test-wheel: setup dist  ## build wheel and sdist, and test what they hold (needs the package registry)
	rm -rf $(VENV)/wheel $(VENV)/plain
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(VENV)/wheel dist/*.whl
	$(PYTHON) -m venv $(VENV)/plain
	$(VENV)/plain/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	PYTHONPATH=$(CURDIR)/$(VENV)/wheel $(BIN)/pytest -n 2 -o pythonpath='$(VENV)/wheel .' $(ARGS) \
		tests/wheel tests/images tests/journeys/test_uploading.py tests/journeys/test_client.py \
		tests/journeys/test_command.py tests/journeys/test_server_cuts.py tests/command/test_cli.py

test-faults: setup  ## the longer crash and fault suite (SEED=… replays a test; FAULTS_SCALE=1: full size)
	$(BIN)/pytest -n 2 --dist worksteal -m 'faults and not long' $(if $(SEED),--seed $(SEED)) $(ARGS)

test-simulation: setup  ## 30,000 schedules of servers, clients and faults in one process and virtual time (SCHEDULES=…; SEED=… replays one)
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--schedules $(or $(SCHEDULES),30000))

test-mutants: setup  ## the simulation on a hundred small wrong changes of the server: prints which it catches (ARGS="--schedules 300 NAME …")
	$(BIN)/python -m tests.mutants $(ARGS)

test-stores: setup  ## contract tests and journeys on versitygw, ministack and MinIO (STORES="minio …"; ARGS=… for pytest)
	$(BIN)/python -m tests.stores $(STORES) $(if $(ARGS),-- $(ARGS))

test-real: setup  ## the same tests on the MongoDB and the S3 named in the environment, with a report that can be sent
	$(BIN)/python -m tests.stores.real $(ARGS)

test-languages: setup  ## the example clients in Go, TypeScript, Java and Python, each with its own toolchain
	$(BIN)/pytest -m languages --durations=5 $(ARGS)

test-web: setup web/node_modules/.ready  ## the TypeScript client, the Uppy plugin and the gallery, in Node and in Chromium (needs Node; ARGS=… for pytest)
	cd web && npm run --silent build && npm run --silent check && npm run --silent test
	$(BIN)/pytest -n 2 --dist loadfile -m 'web and not long' --durations=5 $(ARGS)

ci-long: export FAULTS_SCALE ?= 1
ci-long: setup web/node_modules/.ready  ## what CI has no time for: the web client behind Envoy in full, the fuzz suite through the gateway in full size (ARGS=… for pytest)
	cd web && npm run --silent build
	$(BIN)/pytest -n 2 --dist loadfile -m long --durations=10 $(ARGS)

gallery: web/node_modules/.ready  ## build the page that `local` serves, after a change of web/gallery or web/client (needs Node)
	cd web && npm run --silent build -w client && npm run --silent build -w gallery

gallery-images: setup  ## take the pictures of the gallery that README and docs show; look at each (needs Chromium)
	GALLERY_PICTURES=docs/pictures/gallery $(BIN)/pytest -q tests/gallery/test_pictures.py
	cd docs/pictures/gallery && rm -f sign-in-820-* uploads-820-* viewer-*-light.webp viewer-820-* drawer-820-*

web/node_modules/.ready: web/package-lock.json web/package.json web/client/package.json web/uppy/package.json web/gallery/package.json
	cd web && npm ci --no-audit --no-fund --silent
	@touch $@

web-proto: setup web/node_modules/.ready  ## generate the messages of the TypeScript client
	cd web/client && $(CURDIR)/$(BIN)/buf generate

demo: export DEMO_FILE = $(value FILE)
demo: $(VENV)/.run-ready  ## upload a picture with its cuts while you watch (FILE="my holiday.mp4" for a file of yours, of any type)
	@$(BIN)/python -m examples.demo $${DEMO_FILE:+-- "$$DEMO_FILE"}

run: $(VENV)/.run-ready  ## serve on 127.0.0.1:50151 with an embedded MongoDB and S3, data in .assetlane/
	@exec $(BIN)/assetlane-server local

bench: $(VENV)/.bench-ready  ## measure, side by side with floors and peers
	$(BIN)/python -m bench

$(VENV)/.bench-ready: $(VENV)/.ready requirements/bench.txt
	@$(PYTHON) requirements/install.py $(VENV) bench
	@touch $@

clean:  ## remove what set-up and runs left
	rm -rf $(VENV) .assetlane dist examples/*/bin examples/*/dist examples/*/node_modules examples/*/target web/node_modules web/*/dist web/*/dist-* .mypy_cache .ruff_cache .pytest_cache .hypothesis

proto: setup  ## generate the typed stubs, docs/api.md, docs/openapi.json and, where Go and npm are installed, the stubs of examples/go and web/client
	$(BIN)/python protos/generate.py
	$(BIN)/python protos/reference.py
	$(BIN)/python protos/openapi.py
	$(BIN)/python protos/descriptor.py
	if command -v go > /dev/null; then cd examples/go && PATH="$$PATH:$(CURDIR)/$(BIN)" go generate .; fi
	if command -v npm > /dev/null; then $(MAKE) --no-print-directory web-proto; fi

state-table: setup  ## write the table of an upload's life into docs/how-it-works.md
	$(BIN)/python protos/state_table.py

released-proto: setup  ## remember protos/ as the released contract that `make check` compares with
	$(BIN)/buf build protos -o protos/released.binpb

mime-db:  ## take over npm's table of media types (needs npm and its registry)
	rm -rf $(VENV)/mime-db && mkdir -p $(VENV)/mime-db
	cd $(VENV)/mime-db && npm pack --silent mime-db@1.54.0 && tar xzf mime-db-*.tgz
	$(BIN)/python client/update_mime_db.py $(VENV)/mime-db/package
