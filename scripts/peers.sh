#!/usr/bin/env bash
# Prepares the systems that the bench compares with (bench/README.md): a Python environment of its own in .tools/peers, Java and
# PostgreSQL where they are missing. DBSP is built by the bench when it first runs it.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=.tools/peers
requirements=bench/peers/requirements.txt

command -v javac >/dev/null || scripts/package.sh openjdk-17-jdk-headless
scripts/postgres.sh

cmp --silent "$requirements" "$folder/requirements.txt" && exit 0

# Databend's package needs Python 3.12.
python=
for candidate in python3 python3.14 python3.13 python3.12 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python3; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || {
    echo "scripts/peers.sh: Python 3.12 or newer is needed; install it, or leave the peers out: make bench BENCH=\"engine growth …\"" >&2
    exit 1
}
echo "installing the peers of the bench (1.6 GB)"
rm -rf "$folder"
"$python" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
cp "$requirements" "$folder/requirements.txt"
