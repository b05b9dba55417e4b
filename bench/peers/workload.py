"""What the bench gives to a peer, and what it takes back. The bench's own README.md describes both."""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DAY_MICROS = 86_400_000_000
# A slow method gets no further run once its runs have taken so long.
SECONDS_MAX = 40.0
# Seconds of each run, by the wall clock and of the processor.
type Times = dict[str, list[float]]


@dataclass(frozen=True)
class Segment:
    """At least so many events of one activity and category in the last days."""

    id: int
    activity: str
    category: str
    days: int
    at_least: int
    clause: str
    members_sql: str


@dataclass(frozen=True)
class Event:
    user: int
    activity: str
    category: str
    at: int  # microseconds since 1970


@dataclass(frozen=True)
class Workload:
    folder: Path
    segments: list[Segment]
    until: int  # the instant at which memberships are compared

    @property
    def events_file(self) -> Path:
        return self.folder / "events.ndjson"

    def events(self) -> list[Event]:
        with self.events_file.open() as lines:
            return [Event(**json.loads(line)) for line in lines]


@dataclass(frozen=True)
class Task:
    workload: Workload
    output: Path
    runs: int
    sample: int


def task() -> Task:
    """Reads the command line: WORKLOAD OUTPUT --runs N --sample N."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--sample", type=int, default=5)
    arguments = parser.parse_args()
    described = json.loads((arguments.workload / "segments.json").read_text())
    segments = [Segment(**segment) for segment in described["segments"]]
    workload = Workload(arguments.workload, segments, described["until"])
    return Task(workload, arguments.output, arguments.runs, arguments.sample)


def by_segment(rows: Iterable[tuple[int, int]]) -> dict[int, list[int]]:
    """Makes the answer of rows with a segment and a member."""
    members: dict[int, list[int]] = defaultdict(list)
    for segment, user in rows:
        members[segment].append(user)
    return members


def timed[T](runs: int, run: Callable[[], T], processor: Callable[[], float] = time.process_time) -> tuple[Times, T]:
    """Returns the times of each run, and the last result. `processor` is the clock of processor time."""
    times: Times = {"seconds": [], "processor_seconds": []}
    while True:
        started, processor_started = time.perf_counter(), processor()
        result = run()
        times["seconds"].append(time.perf_counter() - started)
        times["processor_seconds"].append(processor() - processor_started)
        if len(times["seconds"]) >= runs or sum(times["seconds"]) > SECONDS_MAX:
            return times, result


def write(task: Task, *answers: dict[str, Any]) -> None:
    task.output.write_text(json.dumps(answers))
