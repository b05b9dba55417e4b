"""chDB, which is ClickHouse in a process, computes all memberships anew by one query for all segments."""

from __future__ import annotations

import tempfile

import chdb
from chdb.session import Session

from workload import DAY_MICROS, Task, by_segment, task, timed, write

# Ordered by what the query filters by. Strings of few values are LowCardinality.
EVENTS = """
CREATE TABLE bench.events (user Int64, activity LowCardinality(String), category LowCardinality(String), at Int64)
ENGINE = MergeTree ORDER BY (activity, category, at)
"""
SEGMENTS = """
CREATE TABLE bench.segments
(id Int32, activity LowCardinality(String), category LowCardinality(String), since Int64, at_least Int32) ENGINE = Memory
"""
ONE_QUERY = """
SELECT s.id, e.user FROM bench.events e JOIN bench.segments s ON e.activity = s.activity AND e.category = s.category
WHERE e.at >= s.since GROUP BY s.id, s.at_least, e.user HAVING count() >= s.at_least
SETTINGS max_threads = 1
"""


def main(task: Task) -> None:
    work = task.workload
    with tempfile.TemporaryDirectory() as folder:
        session = Session(folder)
        session.query("CREATE DATABASE bench")
        session.query(EVENTS)
        session.query(SEGMENTS)
        session.query(f"INSERT INTO bench.events SELECT * FROM file('{work.events_file.resolve()}', JSONEachRow)")
        session.query("OPTIMIZE TABLE bench.events FINAL")
        rows = [(s.id, s.activity, s.category, work.until - s.days * DAY_MICROS, s.at_least) for s in work.segments]
        session.query(f"INSERT INTO bench.segments VALUES {', '.join(str(row) for row in rows)}")
        count = int(session.query("SELECT count() FROM bench.events", "CSV").data())

        def together() -> list[str]:
            return session.query(ONE_QUERY, "CSV").data().split()

        times, lines = timed(task.runs, together)
        rows_found = (line.split(",") for line in lines)
        answer = times | {
            "method": "chDB, one query for all segments",
            "kind": "recompute",
            "events": count,
            "note": f"{chdb.__version__}, MergeTree on disk, 1 thread",
            "members": by_segment((int(segment), int(user)) for segment, user in rows_found),
        }
        write(task, answer)
        session.close()


main(task())
