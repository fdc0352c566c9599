#!/usr/bin/env bash
# Runs the Autobahn test suite against the sockets' code: crates/websocket/examples/echo.rs, since Autobahn expects an echo.
# The suite is a program of Python 2: `wstest` on the PATH (or in WSTEST), or else its image in Docker.
#
# tests/autobahn.sh [CASE…]: only these, such as '6.*'. The reports stand in target/autobahn.
set -euo pipefail
cd "$(dirname "$0")/.."

reports=$PWD/target/autobahn
wstest=${WSTEST:-wstest}
image=crossbario/autobahn-testsuite:25.10.1
cases=("${@:-*}")

cargo build --quiet -p crewcast-websocket --example echo
rm -rf "$reports"
mkdir -p "$reports"

mkfifo "$reports/address"
target/debug/examples/echo 127.0.0.1:0 >"$reports/address" &
echo=$!
trap 'kill $echo' EXIT
read -r url <"$reports/address"
rm "$reports/address"

# The spec names the folder as `wstest` sees it.
spec() {
  python3 - "$url" "$1" "${cases[@]}" <<'PYTHON'
import json, sys

url, folder, *cases = sys.argv[1:]
server = {"agent": "crewcast", "url": url}
print(json.dumps({"outdir": folder, "servers": [server], "cases": cases, "exclude-cases": [], "exclude-agent-cases": {}}))
PYTHON
}

if command -v "$wstest" >/dev/null; then
  spec "$reports" >"$reports/spec.json"
  "$wstest" -m fuzzingclient -s "$reports/spec.json"
elif command -v docker >/dev/null; then
  spec /reports >"$reports/spec.json"
  docker run --rm --network host -v "$reports:/reports" "$image" wstest -m fuzzingclient -s /reports/spec.json
else
  echo "autobahn: neither wstest nor docker is here; with Python 2.7: pip install autobahntestsuite" >&2
  exit 1
fi
python3 tests/autobahn.py "$reports/index.json"
