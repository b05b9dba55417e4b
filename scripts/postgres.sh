#!/usr/bin/env bash
# Installs PostgreSQL where it is missing: tests start their own private server, on a socket in a temporary folder, and ask
# it what a where clause means. Nothing else uses it, and no service of the package needs to run.
set -euo pipefail

if compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null; then
    exit 0
fi
exec "$(dirname "$0")/package.sh" postgresql
