-- The events whose ids are derived from their content: they count once without a time limit. A table beside the events, since
-- DuckDB 1.5 cannot replay a column that was added to a table with a generated one from its write-ahead log.
CREATE TABLE user_segment_analytics.once_events (
    log_partition INTEGER NOT NULL,
    log_offset BIGINT NOT NULL
);
