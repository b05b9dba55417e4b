#!/usr/bin/env bash
# Installs strace where it is missing: a test sees through it that the log is synced before an event is acknowledged.
set -euo pipefail

command -v strace >/dev/null && exit 0
install='apt-get install --yes --no-install-recommends strace'
command -v apt-get >/dev/null || {
    echo "scripts/strace.sh: install strace" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || {
    echo "scripts/strace.sh: strace is missing; run: sudo $install" >&2
    exit 1
}
echo "installing strace"
apt-get update --quiet --quiet
DEBIAN_FRONTEND=noninteractive $install >/dev/null
