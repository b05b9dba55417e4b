#!/usr/bin/env bash
# Installs PostgreSQL where it is missing: tests start their own private server, on a socket in a temporary folder, and ask
# it what a where clause means. Nothing else uses it, and no service of the package needs to run.
set -euo pipefail

if compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null; then
    exit 0
fi
install='apt-get install --yes --no-install-recommends postgresql'
command -v apt-get >/dev/null || {
    echo "scripts/postgres.sh: install PostgreSQL 15 or newer, with initdb in the PATH" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || {
    echo "scripts/postgres.sh: PostgreSQL is missing; run: sudo $install" >&2
    exit 1
}
echo "installing PostgreSQL"
apt-get update --quiet --quiet
DEBIAN_FRONTEND=noninteractive $install >/dev/null
