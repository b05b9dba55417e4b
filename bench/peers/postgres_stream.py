"""PostgreSQL keeps memberships current: a function queries the user of each event, and an index finds what time ends."""

from __future__ import annotations

import psycopg

from postgres import create, processor_time, server
from workload import Event, Task, by_segment, task, timed, write

# A member is one until `until`, which is included. Each membership that ends is a row that the index of `until` finds.
FUNCTIONS = """
CREATE TABLE memberships (segment_id integer, user_id bigint, until bigint, PRIMARY KEY (segment_id, user_id));
CREATE INDEX ON memberships (until);
CREATE INDEX ON segments (activity, category);
CREATE INDEX ON events (user_id, activity, category, at);

CREATE FUNCTION pass_time(instant bigint) RETURNS bigint LANGUAGE sql AS $$
    WITH ended AS (DELETE FROM memberships WHERE until < instant RETURNING 1) SELECT count(*) FROM ended
$$;

CREATE FUNCTION apply_event(u bigint, a text, c text, instant bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    transitions bigint := pass_time(instant);
    entered bigint;
BEGIN
    INSERT INTO events VALUES (u, a, c, instant);
    WITH members AS (
        SELECT s.id, newest.at + s.window_micros AS until FROM segments s
        CROSS JOIN LATERAL (SELECT e.at FROM events e WHERE e.user_id = u AND e.activity = a AND e.category = c
            ORDER BY e.at DESC OFFSET s.at_least - 1 LIMIT 1) newest
        WHERE s.activity = a AND s.category = c AND newest.at + s.window_micros >= instant
    ), stored AS (
        INSERT INTO memberships SELECT id, u, until FROM members
        ON CONFLICT (segment_id, user_id) DO UPDATE SET until = excluded.until
        RETURNING xmax = 0 AS is_new
    ) SELECT count(*) FILTER (WHERE is_new) FROM stored INTO entered;
    RETURN transitions + entered;
END $$;
"""
APPLY = """
SELECT coalesce(sum(apply_event(u, a, c, instant)), 0)::bigint
FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::bigint[]) AS batch (u, a, c, instant)
"""
# Events in one transaction and one message to the server.
BATCH = 200


def number(connection: psycopg.Connection[tuple[object, ...]], sql: str, values: list[object]) -> int:
    row = connection.execute(sql, values).fetchone()
    return int(str(row[0])) if row else 0


def stream(connection: psycopg.Connection[tuple[object, ...]], events: list[Event], until: int) -> int:
    """Applies all events to empty tables, lets time pass, and returns the number of transitions."""
    connection.execute("TRUNCATE events, memberships")
    transitions = 0
    for start in range(0, len(events), BATCH):
        batch = events[start : start + BATCH]
        columns = [[e.user for e in batch], [e.activity for e in batch], [e.category for e in batch], [e.at for e in batch]]
        transitions += number(connection, APPLY, list(columns))
    return transitions + number(connection, "SELECT pass_time(%s)", [until])


def main(task: Task) -> None:
    events = task.workload.events()
    with server() as connection:
        version = create(connection, task.workload)
        connection.execute(FUNCTIONS)
        connection.execute("ANALYZE segments")
        until = task.workload.until
        times, transitions = timed(task.runs, lambda: stream(connection, events, until), processor_time(connection))
        members = connection.execute("SELECT segment_id, user_id FROM memberships").fetchall()
    answer = times | {
        "method": "PostgreSQL, a query for each event",
        "kind": "stream",
        "events": len(events),
        "note": f"{version}, a function on the server, {BATCH} events in a transaction, no syncs",
        "members": by_segment((int(str(segment)), int(str(user))) for segment, user in members),
        "transitions": transitions,
    }
    write(task, answer)


main(task())
