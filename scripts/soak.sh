#!/usr/bin/env bash
# Compares the engine with the naive interpreter, DuckDB and PostgreSQL on ever new random histories, for as long as asked:
# scripts/soak.sh [SECONDS], until stopped without. A disagreement ends it with a minimised case and its seed.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-}
round=100000
seed=${USS_ORACLE_SEED:-$(date +%s)000}
started=$SECONDS
while [ -z "$seconds" ] || [ $((SECONDS - started)) -lt "$seconds" ]; do
    echo "seeds from $seed"
    USS_ORACLE_SEED=$seed USS_ORACLE_COMPARISONS=$round cargo test --workspace --test oracle --quiet -- --nocapture
    seed=$((seed + round))
done
