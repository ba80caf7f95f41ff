# Everything a person or a machine does here has a name below. `make` prints the list.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

CARGO   ?= cargo
VENV    := .venv
TARGET  := $(or $(CARGO_TARGET_DIR),target)
ENVOY_VERSION := 1.40.0
MODULES := token-bucket metric-router circuit-breaker health-signal
MODULE_FILES := $(foreach module,$(MODULES),dist/$(subst -,_,$(module)).wasm)
WASM_DIR := $(TARGET)/wasm32-wasip1/wasm
HOST_SIM := $(TARGET)/release/host-sim
# The largest a module may be as built, in bytes.
MODULE_LIMIT := 376832
# The linker leaves five bytes for every number of a function or address, to patch it in; pressed
# together, a module is a twelfth smaller, and the same.
WASM_LINK := --config 'target.wasm32-wasip1.rustflags=["-C","link-arg=--compress-relocations"]'

# Some shells export HOST as the name of the machine: of the environment, only 'envoy' is meant.
ifneq ($(origin HOST),command line)
  HOST := $(if $(filter envoy,$(HOST)),envoy,host-sim)
endif

# For recipes: the Envoy binary, that of the environment or that of the venv; empty if there is none.
# By the shell and not by make's wildcard, which remembers what was there before setup-envoy ran.
FIND_ENVOY := $${ENVOY_BIN:-$$(compgen -G '$(VENV)/lib/python3*/site-packages/envoy/_bin/envoy' || true)}

.PHONY: help setup setup-target setup-envoy wasm host-sim demo test lint check conform e2e third-party limitador prometheus sweep determinism explore soak soak-breaker aborts experiments-routing experiments-breaking experiments-envoy bench dist ci clean

help: ## print this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: setup-target setup-envoy ## install what the rest needs: the wasm target, real Envoy in a venv

setup-target:
	@rustc --print target-libdir --target wasm32-wasip1 >/dev/null 2>&1 \
	  && [ -d "$$(rustc --print target-libdir --target wasm32-wasip1)" ] \
	  || rustup target add wasm32-wasip1

setup-envoy:
	@./tests/setup-envoy.sh $(VENV) $(ENVOY_VERSION)

wasm: setup-target ## build the four modules into dist/
	@$(CARGO) build --profile wasm $(WASM_LINK) --target wasm32-wasip1 $(addprefix -p ,$(MODULES))
	@mkdir -p dist
	@for file in $(MODULE_FILES); do \
	  cmp -s "$(WASM_DIR)/$$(basename $$file)" "$$file" || cp "$(WASM_DIR)/$$(basename $$file)" "$$file"; \
	  size=$$(stat -c %s "$$file" 2>/dev/null || stat -f %z "$$file"); \
	  [ "$$size" -le $(MODULE_LIMIT) ] || { echo "$$file: $$size bytes, the limit is $(MODULE_LIMIT)" >&2; exit 1; }; \
	done

host-sim: ## build the host-sim command, target/release/host-sim
	@$(CARGO) build --release -p host-sim-cli

demo: wasm host-sim $(if $(filter envoy,$(HOST)),setup-envoy) ## watch traffic move away from a slow endpoint (HOST=envoy: in real Envoy)
	@envoy="$(FIND_ENVOY)"; $(HOST_SIM) demo --host $(HOST) $${envoy:+--envoy "$$envoy"}

test: setup wasm third-party limitador prometheus ## all tests: cores, scenarios on the shipped modules, live proxy, real Envoy
	@./tests/run.sh

e2e: setup wasm third-party limitador prometheus ## the tests in real Envoy alone
	@./tests/run.sh -p weir-tests envoy

lint: setup-target ## formatting and lints, native and wasm
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy --target wasm32-wasip1 $(addprefix -p ,$(MODULES)) -- -D warnings

check: wasm host-sim setup-envoy ## load every example configuration, in host-sim and in Envoy
	@./tests/check-examples.sh $(HOST_SIM) "$(FIND_ENVOY)"

conform: host-sim setup-envoy ## compare host-sim with real Envoy, every hostcall in every callback
	@envoy="$(FIND_ENVOY)"; $(HOST_SIM) conform $${envoy:+--envoy "$$envoy"}

third-party: setup-target ## build plugins with SDKs of others, old ones and AssemblyScript's
	@./tests/third-party/build.sh target/third-party

limitador: ## build Limitador's engine, which the tests put behind gRPC
	@$(CARGO) build --quiet --locked --manifest-path tests/limitador/Cargo.toml --target-dir target/limitador

prometheus: ## fetch Debian's Prometheus, which the tests let scrape their endpoints
	@./tests/setup-prometheus.sh target/prometheus

sweep: setup wasm ## every hostcall of each module once answered wrongly
	@WEIR_SWEEP=0 ./tests/run.sh --workspace --test sweep -- --nocapture

determinism: wasm host-sim ## 1000 runs of 10 000 requests on four workers: one digest
	@$(HOST_SIM) run tests/determinism/four_workers.yaml --repeat 1000 --jobs "$$(nproc)"

explore: wasm host-sim ## 10 000 orders of four workers on each module: nothing breaks
	@$(HOST_SIM) explore tests/explore --schedules 10000 --jobs "$$(nproc)"

soak: ## 100 000 000 random steps of the real limiter, and every order of a small one (STEPS=...)
	@WEIR_MODEL=large WEIR_SOAK_STEPS=$(or $(STEPS),100000000) \
	  $(CARGO) test --release -p token-bucket-core --lib makes_a_ -- --nocapture

soak-breaker: ## 1 000 000 random schedules of the breaker's workers, a 100 000 000 steps against its specification (CASES=...)
	@PROPTEST_CASES=$(or $(CASES),1000000) WEIR_MODEL_STEPS=100000000 \
	  $(CARGO) test --release -p circuit-breaker-core --lib -- races:: model:: no_history_ --nocapture

aborts: setup wasm ## 100 000 clients that leave a bulkhead, in real Envoy: nothing leaks (CLIENTS=...)
	@WEIR_ABORTS=$(or $(CLIENTS),100000) ./tests/run.sh -p weir-tests clients_that_leave_leak_nothing

# Those of the routing, in the order of the page.
ROUTING := mild-0.75 mild-0.9 strong-0.6 strong-0.75 strong-0.9 antagonist-0.75 homogeneous-0.75 \
  private-vms vms-die mesh sinkhole sinkhole-idle endpoint-dies kill-cycles cold-return

experiments-routing: wasm host-sim ## what routing does, beside native policies: docs/experiments.md (SEEDS=...)
	@$(HOST_SIM) simulate $(ROUTING:%=tests/experiments/%.yaml) $(SEEDS:%=--seeds %) --jobs "$$(nproc)" \
	  --format markdown --out target/experiments.md
	@cat tests/experiments/preface.md target/experiments.md > docs/experiments.md

# Those of breaking, in the order of the page.
BREAKING := cascades unguarded spike spike-even spike-retried

experiments-breaking: wasm host-sim ## what breaking does in overload, beside Envoy's own: docs/experiments-breaking.md (SEEDS=...)
	@$(HOST_SIM) simulate $(BREAKING:%=tests/experiments/breaking/%.yaml) $(SEEDS:%=--seeds %) --jobs "$$(nproc)" \
	  --format markdown --out target/experiments-breaking.md
	@cat tests/experiments/breaking/preface.md target/experiments-breaking.md > docs/experiments-breaking.md

experiments-envoy: wasm setup-envoy ## what routing does in real Envoy: docs/experiments-envoy.md (ARGS="--seeds 1 --rows strong-0.75 --out page.md")
	@$(CARGO) build --release -p weir-tests --bin experiments-envoy
	@ENVOY_BIN="$(FIND_ENVOY)" WEIR_DIST=$(CURDIR)/dist $(TARGET)/release/experiments-envoy \
	  $(if $(findstring --out,$(ARGS)),,--out docs/experiments-envoy.md) $(ARGS)

bench: wasm ## what a request costs: in the whole chain, in an empty filter, beside Envoy's own limiter
	@$(CARGO) build --release -p host-sim-cli -p host-sim-engine -p host-sim-rig --bin host-sim \
	  --example throughput --example limiter_cost
	@$(HOST_SIM) bench -c envoy-config/demo.yaml
	@echo -n "an empty filter in the engine: " && $(TARGET)/release/examples/throughput
	@envoy="$(FIND_ENVOY)"; $(TARGET)/release/examples/limiter_cost $${envoy:+"$$envoy" dist/token_bucket.wasm}

dist: wasm ## the modules with their checksums and sizes
	@cd dist && sha256sum *.wasm > SHA256SUMS && wc -c *.wasm && cat SHA256SUMS

ci: ## what continuous integration runs
	@./.ci/run

clean: ## remove everything that was built or installed here
	rm -rf target dist $(VENV)
