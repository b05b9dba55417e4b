-- Users that were merged into others or deleted. Later records of theirs are not archived under
-- their ids.
CREATE TABLE user_segment_analytics.departures (
    user_id BIGINT NOT NULL,
    deleted BOOLEAN NOT NULL
);

INSERT INTO user_segment_analytics.departures SELECT absorbed, false FROM user_segment_analytics.aliases;
