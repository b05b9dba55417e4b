-- The time of the last scrub, and how many users had been deleted by then. At most one row.
CREATE TABLE user_segment_analytics.scrubs (
    at_micros BIGINT NOT NULL,
    deleted_users BIGINT NOT NULL
);

-- Without an index: DuckDB cannot move the rows of a table with an index, and they keep the blocks
-- that they share.
CREATE TABLE user_segment_analytics.unindexed_positions (
    log_partition INTEGER NOT NULL,
    next_offset BIGINT NOT NULL
);
INSERT INTO user_segment_analytics.unindexed_positions SELECT * FROM user_segment_analytics.archive_positions;
DROP TABLE user_segment_analytics.archive_positions;
ALTER TABLE user_segment_analytics.unindexed_positions RENAME TO archive_positions;
