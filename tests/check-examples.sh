#!/usr/bin/env bash
# Loads every Envoy bootstrap of envoy-config/ in host-sim and, if a binary is named, in Envoy:
# check-examples.sh HOST_SIM [ENVOY].
set -euo pipefail
host_sim=$1 envoy=${2:-}
"$host_sim" certs target/demo/certs >/dev/null
for file in envoy-config/*.yaml; do
  "$host_sim" check -c "$file"
  if [ -n "$envoy" ]; then
    "$envoy" --mode validate --use-dynamic-base-id --log-level error -c "$file" >/dev/null
    echo "$file: accepted by Envoy"
  else
    echo "SKIP $file in Envoy: it is not installed"
  fi
done
