#!/usr/bin/env bash
# Builds the plugins here with SDKs from the registries: build.sh OUT puts .wasm files into OUT.
# Skips AssemblyScript, visibly, where npm is missing or cannot install; with CI=true that is an error.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)

for sdk in "$here"/sdk-*/; do
  name=$(basename "$sdk")
  name=${name//[.-]/_}
  cargo build --quiet --locked --release --target wasm32-wasip1 \
    --manifest-path "$sdk/Cargo.toml" --target-dir "$out/cargo"
  cp "$out/cargo/wasm32-wasip1/release/$name.wasm" "$out/"
done

skip() {
  echo "SKIP the AssemblyScript module: $1" >&2
  rm -f "$out/assemblyscript.wasm"
  [ "${CI:-}" != true ] || exit 1
  exit 0
}
command -v npm >/dev/null || skip "npm is not installed"
work=$out/assemblyscript
source=$here/assemblyscript
if [ "$source/index.ts" -nt "$out/assemblyscript.wasm" ] ||
  [ "$source/package-lock.json" -nt "$out/assemblyscript.wasm" ]; then
  rm -rf "$work"
  cp -R "$source" "$work"
  cd "$work"
  npm ci --silent --no-audit --no-fund || skip "npm cannot install its compiler"
  ./node_modules/.bin/asc index.ts -b "$out/assemblyscript.wasm" \
    --use abort=abort_proc_exit --optimize 2>asc.log || { cat asc.log >&2; exit 1; }
fi
