#!/usr/bin/env bash
# `make run`: builds, and serves; on the first start with sample data.
set -euo pipefail
cd "$(dirname "$0")/.."

started=$(date +%s)
cargo build --bin uss
echo "built in $(($(date +%s) - started)) s"
exec target/debug/uss serve --sample-data "$@"
