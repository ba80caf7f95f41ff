#!/usr/bin/env bash
# Puts Debian's Prometheus into a folder, without installing it: setup-prometheus.sh FOLDER.
# Needs apt-get and dpkg and no rights. Where they are missing, or nothing can be fetched, it says so
# and succeeds: the tests with a Prometheus server are skipped then.
set -euo pipefail

folder=$1
[ -x "$folder/usr/bin/prometheus" ] && exit 0
mkdir -p "$folder"
cd "$folder"
if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
  echo "no apt-get and dpkg: without Prometheus its tests are skipped"
elif ! apt-get download prometheus >download.log 2>&1; then
  echo "Prometheus cannot be fetched ($(tail -n 1 download.log)): its tests are skipped"
else
  dpkg -x prometheus_*.deb .
  rm -f prometheus_*.deb download.log
fi
