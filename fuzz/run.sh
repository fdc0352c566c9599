#!/usr/bin/env bash
# Runs fuzz targets, all of them unless some are named: fuzz/run.sh SECONDS [TARGET…]
# What they find stands in fuzz/artifacts, what they learn in target/fuzz/corpus.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:?usage: fuzz/run.sh SECONDS [TARGET…]}
shift
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  mapfile -t targets < <(sed -n 's/^path = "targets\/\(.*\)\.rs"$/\1/p' fuzz/Cargo.toml)
fi

if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
  echo "fuzzing needs a nightly Rust and cargo-fuzz:" >&2
  echo "  rustup toolchain install nightly --profile minimal" >&2
  echo "  cargo install cargo-fuzz --locked" >&2
  exit 1
fi

status=0
for target in "${targets[@]}"; do
  corpus=target/fuzz/corpus/$target
  mkdir -p "$corpus"
  echo "== $target, $seconds s"
  # 16 KiB reach every branch; a call of more than ten seconds, or 2 GiB, is a finding.
  cargo +nightly fuzz run --target-dir target/fuzz "$target" "$corpus" "fuzz/seeds/$target" -- \
    -max_total_time="$seconds" -max_len=16384 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 || status=1
done
exit $status
