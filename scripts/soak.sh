#!/usr/bin/env bash
# Compares the engine with the naive interpreter, DuckDB and PostgreSQL on ever new random histories:
# scripts/soak.sh [SECONDS] for as long, with COMPARISONS=… for as many, without either until stopped. A disagreement
# ends it with a minimised case and its seed.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-}
comparisons=${COMPARISONS:-}
round=100000
seed=${USS_ORACLE_SEED:-$(date +%s)000}
started=$SECONDS
compared=0
output=$(mktemp)
trap 'rm -f "$output"' EXIT

wanted() {
    [ -z "$seconds" ] || [ $((SECONDS - started)) -lt "$seconds" ] || return 1
    [ -z "$comparisons" ] || [ "$compared" -lt "$comparisons" ] || return 1
}

while wanted; do
    echo "seeds from $seed"
    USS_ORACLE_SEED=$seed USS_ORACLE_COMPARISONS=$round \
        cargo test --workspace --test oracle --quiet -- --nocapture the_engine 2>&1 | tee "$output"
    # "N cases from seed S, M users in segments at instants"
    asked=$(sed -n 's/^[0-9]* cases from seed [0-9]*, \([0-9]*\) users in segments at instants$/\1/p' "$output")
    compared=$((compared + asked))
    echo "$compared users in segments at instants compared in $((SECONDS - started)) s: no disagreement"
    seed=$((seed + round))
done
