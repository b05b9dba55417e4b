#!/usr/bin/env bash
# Fuzzes each target for SECONDS_EACH seconds (60), or only those that are named: scripts/fuzz.sh SECONDS_EACH [TARGET…].
# It builds everything again under target/fuzz, with coverage that libFuzzer follows. That needs no other toolchain: the pass
# is part of rustc, and libfuzzer-sys brings the fuzzer, which a C++ compiler builds.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    mapfile -t targets < <(ls fuzz/corpus)
fi
host=x86_64-unknown-linux-gnu
# Those of .cargo/config.toml, which this variable takes the place of; then the coverage.
export RUSTFLAGS="-C link-args=-Wl,-rpath,$PWD/.tools/duckdb --cfg fuzzing -C passes=sancov-module \
    -C llvm-args=-sanitizer-coverage-level=3 -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
    -C llvm-args=-sanitizer-coverage-pc-table -C llvm-args=-sanitizer-coverage-trace-compares"
# With --target, build scripts and macros are built without these.
cargo build --package fuzz --features libfuzzer --target-dir target/fuzz --target $host
failed=0
for target in "${targets[@]}"; do
    found=target/fuzz/found/$target
    mkdir -p "$found"
    dictionary=()
    [ -f "fuzz/dictionaries/$target.txt" ] && dictionary=("-dict=fuzz/dictionaries/$target.txt")
    echo "== $target, $seconds s"
    FUZZ_TARGET=$target target/fuzz/$host/debug/fuzz "$found" "fuzz/corpus/$target" "${dictionary[@]}" \
        -max_total_time="$seconds" -max_len=4096 -timeout=20 -rss_limit_mb=3000 -print_final_stats=1 -verbosity=0 \
        -artifact_prefix="target/fuzz/$target-" || failed=1
done
exit $failed
