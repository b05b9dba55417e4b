"""The method of the system that USS replaces: after each event, one SQL query for each segment, on DuckDB and on Databend.

It takes the last events of the workload. All those before them are in the table. Only the queries are timed, not the inserts.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import databend
import duckdb

from workload import Event, Segment, Task, task, write

COLUMNS = "user_id BIGINT, activity_type VARCHAR, element_id VARCHAR, created_at TIMESTAMP"
type Rows = Callable[[str], list[tuple[Any, ...]]]
type Clause = Callable[[Segment, str], str]


def instant(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def on_duckdb(segment: Segment, now: str) -> str:
    """Returns the where clause as it was saved, at one instant."""
    return segment.clause.replace("now()", f"TIMESTAMP '{now}'")


def on_databend(segment: Segment, now: str) -> str:
    """Returns the where clause as Databend has it, which has no FILTER."""
    return (
        f"count_if(activity_type = '{segment.activity}' AND element_id = '{segment.category}' "
        f"AND created_at >= TIMESTAMP '{now}' - INTERVAL '{segment.days} days') >= {segment.at_least}"
    )


def measure(rows: Rows, clause: Clause, segments: list[Segment], sample: dict[int, Event]) -> dict[str, Any]:
    """Inserts each event, queries all segments for its user, and times the queries."""
    after_events, seconds, processor_seconds = {}, 0.0, 0.0
    for number, event in sample.items():
        now = instant(event.at)
        rows(f"INSERT INTO events VALUES ({event.user}, '{event.activity}', '{event.category}', '{now}')")
        started, processor_started = time.perf_counter(), time.process_time()
        queries = {s.id: f"SELECT {clause(s, now)} FROM events WHERE user_id = {event.user}" for s in segments}
        after_events[number] = [segment for segment, query in queries.items() if rows(query)[0][0]]
        seconds += time.perf_counter() - started
        processor_seconds += time.process_time() - processor_started
    times = {"seconds": [seconds], "processor_seconds": [processor_seconds]}
    return times | {"kind": "each_event", "events": len(sample), "after_events": after_events}


def main(task: Task) -> None:
    work, events = task.workload, task.workload.events()
    first = len(events) - task.sample
    sample = dict(list(enumerate(events))[first:])
    with tempfile.TemporaryDirectory() as folder:
        table = f"{folder}/events.parquet"
        connection = duckdb.connect(config={"threads": 1})
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE TABLE events ({COLUMNS})")
        source = f"read_json('{work.events_file}', format = 'newline_delimited')"
        columns = '"user", activity, category, make_timestamp("at")'
        connection.execute(f'INSERT INTO events SELECT {columns} FROM {source} ORDER BY "at" LIMIT {first}')
        connection.execute(f"COPY events TO '{table}'")
        by_duckdb = measure(lambda sql: connection.execute(sql).fetchall(), on_duckdb, work.segments, sample)
        by_duckdb["method"] = "one SQL query per segment and event, DuckDB"
        by_duckdb["note"] = f"{duckdb.__version__}, in memory, 1 thread, {len(sample)} of the events"
        by_databend = measure_databend(folder, work.segments, sample)
    by_databend["method"] = "one SQL query per segment and event, Databend"
    write(task, by_duckdb, by_databend)


def measure_databend(folder: str, segments: list[Segment], sample: dict[int, Event]) -> dict[str, Any]:
    session = databend.SessionContext(data_path=f"{folder}/databend")

    def rows(sql: str) -> list[tuple[Any, ...]]:
        table = session.sql(sql).to_arrow_table()
        return list(zip(*[column.to_pylist() for column in table.columns], strict=True))

    rows("SET timezone = 'UTC'")
    rows("SET max_threads = 1")
    rows(f"CREATE TABLE events ({COLUMNS})")
    rows(f"COPY INTO events FROM 'fs://{folder}/events.parquet' FILE_FORMAT = (TYPE = PARQUET)")
    version = str(rows("SELECT version()")[0][0]).split("v")[-1].split("-")[0]
    note = f"{version}, table on disk, 1 thread, {len(sample)} of the events"
    return measure(rows, on_databend, segments, sample) | {"note": note}


main(task())
