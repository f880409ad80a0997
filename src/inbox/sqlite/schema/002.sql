-- Consumers: pausing, breaker, renaming, and replays, which are consumers of a part of the log. The name of a replay's
-- consumer is 'replay:<job>', which no sink can have.
ALTER TABLE sinks ADD COLUMN paused_at INTEGER;               -- NULL: not paused
ALTER TABLE sinks ADD COLUMN breaker_open_since INTEGER;      -- NULL: closed
ALTER TABLE sinks ADD COLUMN still_since INTEGER;             -- paused or open since; NULL: going on
ALTER TABLE sinks ADD COLUMN still_us INTEGER NOT NULL DEFAULT 0;  -- stood still before that, in all
ALTER TABLE sinks ADD COLUMN delivered INTEGER NOT NULL DEFAULT 0; -- events
ALTER TABLE sinks ADD COLUMN former_name TEXT;                -- the name before the last renaming
ALTER TABLE sinks ADD COLUMN replay_of INTEGER;               -- the sink's own consumer; NULL: this is one
ALTER TABLE sinks ADD COLUMN job_id INTEGER;                  -- the replay; NULL: a sink's own consumer
ALTER TABLE sinks ADD COLUMN last_seq INTEGER;                -- where a replay ends
CREATE INDEX sinks_live ON sinks (name) WHERE job_id IS NULL;
UPDATE sinks SET delivered =
    (SELECT count(DISTINCT seq) FROM attempts WHERE sink_id = sinks.id AND outcome = 1);

ALTER TABLE parked ADD COLUMN still_us INTEGER NOT NULL DEFAULT 0; -- sinks.still_us at the first attempt

-- A dead letter that somebody has given up for good, or an event whose body was gone, is discarded. Made anew, because
-- a number that a person has read must never stand for another event: one that is tried again leaves, and may come back.
CREATE TABLE letters (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    sink_id        INTEGER NOT NULL,
    seq            INTEGER NOT NULL,
    attempts       INTEGER NOT NULL,
    reason         TEXT NOT NULL,
    at             INTEGER NOT NULL,
    discarded_at   INTEGER,             -- NULL: waits for a decision
    discard_reason TEXT,
    discarded_by   TEXT,                -- NULL: nobody had to decide
    UNIQUE (sink_id, seq)
) STRICT;
INSERT INTO letters (id, sink_id, seq, attempts, reason, at)
    SELECT id, sink_id, seq, attempts, reason, at FROM dead_letters ORDER BY id;
DROP TABLE dead_letters;
ALTER TABLE letters RENAME TO dead_letters;
CREATE INDEX dead_letters_open ON dead_letters (id) WHERE discarded_at IS NULL;
CREATE INDEX dead_letters_open_by_sink ON dead_letters (sink_id) WHERE discarded_at IS NULL;

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
    upto       INTEGER,                 -- how far they go; NULL: not begun, or not known before
    done       INTEGER NOT NULL DEFAULT 0,
    failed     INTEGER NOT NULL DEFAULT 0,
    bytes      INTEGER NOT NULL DEFAULT 0, -- of the bodies that are dropped
    total      INTEGER,
    message    TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX jobs_open ON jobs (id) WHERE state <= 2;
