"""Apache Flink keeps memberships current: a keyed process function, and a query in Flink SQL. Both run in one Java process."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

from workload import Task, task

SOURCES = Path(__file__).parent / "flink"
CLASSES = Path("target/bench/flink")
# Flink opens these in its own start scripts.
OPENS = ["java.util", "java.lang", "java.util.concurrent", "java.net", "java.time"]


def jars() -> Path:
    """Returns where the package apache-flink-libraries has Flink."""
    package = importlib.util.find_spec("pyflink")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("apache-flink-libraries is not installed: run scripts/peers.sh")
    return Path(package.submodule_search_locations[0]) / "lib"


def main(task: Task) -> None:
    libraries = f"{jars()}/*"
    sources = sorted(str(source) for source in SOURCES.glob("*.java"))
    subprocess.run(["javac", "-nowarn", "-cp", libraries, "-d", str(CLASSES), *sources], check=True)
    opens = [option for package in OPENS for option in ("--add-opens", f"java.base/{package}=ALL-UNNAMED")]
    memory = ["-Xms2g", "-Xmx2g"]
    program = ["-cp", f"{CLASSES}:{libraries}", "Peer", str(task.workload.folder), str(task.output), str(task.runs)]
    subprocess.run(["java", *opens, *memory, *program], check=True)


main(task())
