"""DuckDB computes all memberships anew: by the SQL that USS generates of each segment, and by one query for all segments."""

from __future__ import annotations

import duckdb

from workload import DAY_MICROS, Task, by_segment, task, timed, write

EVENTS = """
CREATE SCHEMA user_segment_analytics;
CREATE TABLE events AS SELECT "user" AS user_id, activity, category, "at" FROM read_json(?,
    columns = {'user': 'BIGINT', 'activity': 'VARCHAR', 'category': 'VARCHAR', 'at': 'BIGINT'}, format = 'newline_delimited');
"""
# The relations that the generated queries read, as tables of the columns that they use.
RELATIONS = """
CREATE TABLE user_segment_analytics.user_events AS SELECT user_id, activity AS payload_activity_type,
    category AS payload_element_id, make_timestamptz("at") AS created_at,
    make_timestamptz("at") AS processed_at FROM events;
CREATE TABLE user_segment_analytics.users AS SELECT DISTINCT user_id AS id FROM events;
CREATE TABLE user_segment_analytics.traits (user_id BIGINT, traits JSON);
"""
ONE_QUERY = """
SELECT s.id, e.user_id FROM events e JOIN segments s ON e.activity = s.activity AND e.category = s.category
WHERE e."at" >= s.since GROUP BY s.id, s.at_least, e.user_id HAVING count(*) >= s.at_least
"""


def main(task: Task) -> None:
    work = task.workload
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("SET TimeZone = 'UTC'")
    schema, table = EVENTS.split(";")[:2]
    connection.execute(schema)
    connection.execute(table, [str(work.events_file)])
    connection.execute(RELATIONS)
    connection.execute((work.folder / "macros.sql").read_text())
    connection.execute("CREATE TABLE segments (id INTEGER, activity VARCHAR, category VARCHAR, since BIGINT, at_least INTEGER)")
    rows = [(s.id, s.activity, s.category, work.until - s.days * DAY_MICROS, s.at_least) for s in work.segments]
    connection.executemany("INSERT INTO segments VALUES (?, ?, ?, ?, ?)", rows)
    count = connection.execute("SELECT count(*) FROM events").fetchone()
    common = {"kind": "recompute", "events": count[0] if count else 0, "note": f"{duckdb.__version__}, in memory, 1 thread"}

    def each() -> dict[int, list[int]]:
        return {s.id: [row[0] for row in connection.execute(s.members_sql).fetchall()] for s in work.segments}

    def together() -> dict[int, list[int]]:
        return by_segment(connection.execute(ONE_QUERY).fetchall())

    answers = []
    for method, run in [("DuckDB, the SQL of each segment", each), ("DuckDB, one query for all segments", together)]:
        times, members = timed(task.runs, run)
        answers.append(common | times | {"method": method, "members": members})
    write(task, *answers)


main(task())
