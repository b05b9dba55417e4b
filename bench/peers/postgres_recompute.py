"""PostgreSQL computes all memberships anew by one query for all segments."""

from __future__ import annotations

from postgres import create, processor_time, server
from workload import Task, by_segment, task, timed, write

ONE_QUERY = """
SELECT s.id, e.user_id FROM events e JOIN segments s ON e.activity = s.activity AND e.category = s.category
WHERE e.at >= %s - s.window_micros GROUP BY s.id, s.at_least, e.user_id HAVING count(*) >= s.at_least
"""


def main(task: Task) -> None:
    events = task.workload.events()
    with server() as connection:
        version = create(connection, task.workload)
        with connection.cursor() as cursor, cursor.copy("COPY events FROM STDIN") as copy:
            for event in events:
                copy.write_row((event.user, event.activity, event.category, event.at))
        connection.execute("CREATE INDEX ON events (activity, category, at) INCLUDE (user_id)")
        connection.execute("VACUUM ANALYZE")
        until = [task.workload.until]
        times, rows = timed(task.runs, lambda: connection.execute(ONE_QUERY, until).fetchall(), processor_time(connection))
    answer = times | {
        "method": "PostgreSQL, one query for all segments",
        "kind": "recompute",
        "events": len(events),
        "note": f"{version}, everything in memory, no parallel query",
        "members": by_segment((int(str(segment)), int(str(user))) for segment, user in rows),
    }
    write(task, answer)


main(task())
