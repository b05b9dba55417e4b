-- Whether the event's id is derived from its content: such an event counts once without a time limit.
ALTER TABLE user_segment_analytics.events ADD COLUMN once BOOLEAN DEFAULT false;
