-- Every accepted event, under the user id with which it was received. Its key is (log_partition,
-- log_offset). It has no index: the archive position prevents duplicates, and every query is for
-- many users at once.
CREATE TABLE user_segment_analytics.events (
    id VARCHAR GENERATED ALWAYS AS (coalesce(event_id, log_partition || ':' || log_offset)) VIRTUAL,
    user_id BIGINT NOT NULL,
    client_ref_id VARCHAR NOT NULL,
    id_type VARCHAR,
    region VARCHAR,
    device_type VARCHAR,
    country VARCHAR,
    payload_activity_type VARCHAR,
    payload_url VARCHAR,
    payload_order_total DECIMAL(38, 9),
    payload_order_id VARCHAR,
    payload_element_id VARCHAR,
    created_at TIMESTAMPTZ NOT NULL,
    processed_at TIMESTAMPTZ NOT NULL,
    payload JSON NOT NULL,
    event_id VARCHAR,
    log_partition INTEGER NOT NULL,
    log_offset BIGINT NOT NULL
);

-- All known users, without those that were merged into others.
CREATE TABLE user_segment_analytics.users (
    id BIGINT NOT NULL,
    client_ref_id VARCHAR,
    email VARCHAR,
    name VARCHAR,
    created_at TIMESTAMPTZ NOT NULL
);

-- Every value that a trait ever had, under the user id for which it was set. JSON null removes the
-- trait.
CREATE TABLE user_segment_analytics.trait_values (
    user_id BIGINT NOT NULL,
    key VARCHAR NOT NULL,
    value JSON NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    log_partition INTEGER NOT NULL,
    log_offset BIGINT NOT NULL
);

-- The survivor of each merged user. `survivor` is never itself absorbed: chains are resolved when
-- they are written.
CREATE TABLE user_segment_analytics.aliases (
    absorbed BIGINT NOT NULL,
    survivor BIGINT NOT NULL
);

-- The next offset to archive, for each partition of the event topic.
CREATE TABLE user_segment_analytics.archive_positions (
    log_partition INTEGER PRIMARY KEY,
    next_offset BIGINT NOT NULL
);

-- The events as where clauses see them: `user_id` is the current user, `id` the client's id of the
-- delivery.
CREATE VIEW user_segment_analytics.user_events AS
SELECT
    e.event_id,
    e.event_id AS id,
    coalesce(a.survivor, e.user_id) AS user_id,
    e.client_ref_id,
    e.id_type,
    e.region,
    e.device_type,
    e.country,
    e.payload_activity_type,
    e.payload_activity_type AS activity_type,
    e.payload_url,
    e.payload_url AS url,
    e.payload_order_total,
    e.payload_order_total AS order_total,
    e.payload_order_id,
    e.payload_order_id AS order_id,
    e.payload_element_id,
    e.payload_element_id AS element_id,
    e.created_at,
    e.processed_at,
    e.payload,
    e.log_partition,
    e.log_offset
FROM user_segment_analytics.events e
LEFT JOIN user_segment_analytics.aliases a ON a.absorbed = e.user_id;

-- Each user's current traits: the newest value of each key. Of equally old values the survivor's
-- own wins, then the later record's.
CREATE VIEW user_segment_analytics.traits AS
SELECT user_id, json_group_object(key, value) AS traits
FROM (
    SELECT coalesce(a.survivor, t.user_id) AS user_id, t.key, t.value
    FROM user_segment_analytics.trait_values t
    LEFT JOIN user_segment_analytics.aliases a ON a.absorbed = t.user_id
    QUALIFY row_number() OVER (
        PARTITION BY coalesce(a.survivor, t.user_id), t.key
        ORDER BY t.created_at DESC, a.survivor IS NULL DESC, t.log_offset DESC
    ) = 1
)
WHERE json_type(value) <> 'NULL'
GROUP BY user_id;
