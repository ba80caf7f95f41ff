#!/usr/bin/env bash
# Runs the tests: run.sh [ARG...] hands its arguments to the runner (default: the whole workspace).
# cargo-nextest where it is installed, cargo test elsewhere.
set -euo pipefail

envoy=$(compgen -G ".venv/lib/python3*/site-packages/envoy/_bin/envoy" | head -n 1 || true)
if [ -n "$envoy" ]; then
  export ENVOY_BIN=${ENVOY_BIN:-$PWD/$envoy}
elif [ -z "${ENVOY_BIN:-}" ]; then
  if [ "${CI:-}" = true ]; then
    echo "run: CI=true and no Envoy: run 'make setup'" >&2
    exit 1
  fi
  echo "SKIP the tests in real Envoy: it is not installed (make setup)"
fi
# Compiled modules stay with what else was built here: `make clean` removes them.
export HOST_SIM_CACHE=${HOST_SIM_CACHE:-$PWD/target/module-cache}
export WEIR_DIST=${WEIR_DIST:-$PWD/dist}

if ! cargo nextest --version >/dev/null 2>&1; then
  [ $# -gt 0 ] || set -- --workspace
  exec cargo test --no-fail-fast "$@"
fi
if [ $# -eq 0 ]; then
  # nextest does not run the examples in the documentation.
  cargo test --quiet --doc --workspace
  set -- --workspace
fi
exec cargo nextest run --no-fail-fast "$@"
