-- The events whose ids dedupe forever, because they are derived from the content. A table of its
-- own: DuckDB 1.5 cannot replay from its write-ahead log a column that was added to a table with a
-- generated column.
CREATE TABLE user_segment_analytics.once_events (
    log_partition INTEGER NOT NULL,
    log_offset BIGINT NOT NULL
);
