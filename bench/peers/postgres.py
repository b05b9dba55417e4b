"""A PostgreSQL server of its own, in a temporary folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from workload import DAY_MICROS, Workload

# Memory as the documentation advises for a machine that has it. Nothing waits for the disk, and no query takes a second core:
# the engine alone has no disk and one core.
SETTINGS = {
    "shared_buffers": "1GB",
    "work_mem": "256MB",
    "effective_cache_size": "4GB",
    "max_wal_size": "4GB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum_naptime": "5s",
    "max_parallel_workers_per_gather": "0",
    "listen_addresses": "''",
}
SEGMENTS = """
CREATE TABLE segments (id integer PRIMARY KEY, activity text, category text, window_micros bigint, at_least integer);
CREATE TABLE events (user_id bigint, activity text, category text, at bigint);
"""


def binaries() -> Path:
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = newest[-1] if newest else Path(shutil.which("initdb") or "initdb")
    return found.parent


def call(*command: str | Path) -> None:
    """Calls a program as another user if this one is root, which PostgreSQL refuses."""
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    subprocess.run([*user, *map(str, command)], check=True, stdout=subprocess.DEVNULL)


@contextmanager
def server() -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Starts a server and connects to it. The server stops with the script, also if that is told to stop."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="bench-postgres-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        data = folder / "data"
        call(binaries() / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync", "--locale=C", "-E", "UTF8")
        options = " ".join(f"-c {setting}={value}" for setting, value in SETTINGS.items())
        call(binaries() / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", f"-k {folder} {options}", "start")
        try:
            with psycopg.connect(host=name, user="postgres", dbname="postgres", autocommit=True) as connection:
                yield connection
        finally:
            call(binaries() / "pg_ctl", "-D", data, "-m", "immediate", "stop")


def create(connection: psycopg.Connection[tuple[object, ...]], workload: Workload) -> str:
    """Creates the tables, fills that of segments, and returns the version."""
    connection.execute(SEGMENTS)
    with connection.cursor() as cursor, cursor.copy("COPY segments FROM STDIN") as copy:
        for s in workload.segments:
            copy.write_row((s.id, s.activity, s.category, s.days * DAY_MICROS, s.at_least))
    return f"{connection.info.server_version // 10000}.{connection.info.server_version % 10000}"


def processor_time(connection: psycopg.Connection[tuple[object, ...]]) -> Callable[[], float]:
    """Returns the clock of the server process that serves the connection. Linux counts nanoseconds there."""
    file = Path(f"/proc/{connection.info.backend_pid}/schedstat")
    return lambda: int(file.read_text().split()[0]) / 1e9
