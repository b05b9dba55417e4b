"""DBSP keeps memberships current in a circuit. Its program is built on the first run, which takes some ten minutes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from workload import Task, task

MANIFEST = Path(__file__).parent / "dbsp" / "Cargo.toml"
TARGET = Path("target/bench/dbsp")


def main(task: Task) -> None:
    build = ["cargo", "build", "--quiet", "--release", "--locked", "--manifest-path", MANIFEST, "--target-dir", TARGET]
    # Not the repository's flags, which are for libduckdb.
    subprocess.run(build, check=True, env=os.environ | {"RUSTFLAGS": ""})
    program = TARGET / "release" / "dbsp-peer"
    subprocess.run([program, task.workload.folder, task.output, str(task.runs)], check=True)


main(task())
