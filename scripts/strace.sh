#!/usr/bin/env bash
# Installs strace where it is missing: a test sees through it that the log is synced before an event is acknowledged.
set -euo pipefail

command -v strace >/dev/null || exec "$(dirname "$0")/package.sh" strace
