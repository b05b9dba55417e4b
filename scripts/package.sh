#!/usr/bin/env bash
# scripts/package.sh NAME: installs a Debian package, or says what to run.
set -euo pipefail

install="apt-get install --yes --no-install-recommends $1"
command -v apt-get >/dev/null || {
    echo "scripts/package.sh: install $1" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || {
    echo "scripts/package.sh: $1 is missing; run: sudo $install" >&2
    exit 1
}
echo "installing $1"
apt-get update --quiet --quiet
DEBIAN_FRONTEND=noninteractive $install >/dev/null
