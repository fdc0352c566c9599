#!/usr/bin/env bash
# Installs mdbook, which builds the documentation as a site, into target/tools. Does nothing if this version is there.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.5.4

say() { printf 'setup: %s\n' "$*" >&2; }

[ "$(target/tools/bin/mdbook --version 2>/dev/null)" = "mdbook v$version" ] && exit

say "installing mdbook $version into target/tools (two minutes)"
if ! cargo install mdbook --version "$version" --no-default-features --locked --debug --root target/tools >&2; then
  say "mdbook could not be installed. Please see why this fails:"
  say "  cargo install mdbook --version $version --no-default-features --locked --debug --root target/tools"
  exit 1
fi
