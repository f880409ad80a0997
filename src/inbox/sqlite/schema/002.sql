-- Consumers: pausing, breaker, renaming, and replays, which are consumers of a part of the log.
ALTER TABLE sinks ADD COLUMN paused_at INTEGER;               -- NULL: not paused
ALTER TABLE sinks ADD COLUMN breaker_open_since INTEGER;      -- NULL: closed
ALTER TABLE sinks ADD COLUMN still_since INTEGER;             -- paused or open since; NULL: going on
ALTER TABLE sinks ADD COLUMN still_us INTEGER NOT NULL DEFAULT 0;  -- stood still before that, in all
ALTER TABLE sinks ADD COLUMN delivered INTEGER NOT NULL DEFAULT 0; -- events
ALTER TABLE sinks ADD COLUMN former_name TEXT;                -- the name before the last renaming
ALTER TABLE sinks ADD COLUMN replay_of INTEGER;               -- the sink's own consumer; NULL: this is one
ALTER TABLE sinks ADD COLUMN job_id INTEGER;                  -- the replay; NULL: a sink's own consumer
ALTER TABLE sinks ADD COLUMN last_seq INTEGER;                -- where a replay ends

ALTER TABLE parked ADD COLUMN still_us INTEGER NOT NULL DEFAULT 0; -- sinks.still_us at the first attempt

-- A dead letter that somebody has given up for good, or an event whose body was gone, is discarded.
ALTER TABLE dead_letters ADD COLUMN discarded_at INTEGER;     -- NULL: waits for a decision
ALTER TABLE dead_letters ADD COLUMN discard_reason TEXT;
ALTER TABLE dead_letters ADD COLUMN discarded_by TEXT;        -- NULL: nobody had to decide
CREATE INDEX dead_letters_open ON dead_letters (id) WHERE discarded_at IS NULL;

-- What people asked for. Kept: who wanted what, when, why, and what came of it.
CREATE TABLE jobs (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    task       TEXT NOT NULL,           -- JSON, see inbox/job.rs
    who        TEXT NOT NULL,
    reason     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER,
    state      INTEGER NOT NULL,        -- 1 queued, 2 running, 3 done, 4 failed, 5 cancelled
    place      INTEGER NOT NULL DEFAULT 0, -- how far its portions have come
    done       INTEGER NOT NULL DEFAULT 0,
    failed     INTEGER NOT NULL DEFAULT 0,
    total      INTEGER,
    message    TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX jobs_open ON jobs (id) WHERE state <= 2;
