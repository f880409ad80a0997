-- How each sink is doing, in the consumer's own words: for lists and the page, whether the daemon runs or not.
ALTER TABLE sinks ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;  -- attempts that failed since the last success
ALTER TABLE sinks ADD COLUMN failing_since INTEGER;                -- the first of these; NULL: the last one succeeded
ALTER TABLE sinks ADD COLUMN last_error TEXT;                      -- of the last attempt that failed
ALTER TABLE sinks ADD COLUMN last_error_at INTEGER;
ALTER TABLE sinks ADD COLUMN last_success_at INTEGER;
ALTER TABLE sinks ADD COLUMN next_try INTEGER;                     -- NULL: nothing waits for a time
ALTER TABLE sinks ADD COLUMN reading_stopped INTEGER NOT NULL DEFAULT 0; -- 1: more than retry.max_parked are parked
-- The sink could not be built from its configuration, so nothing is delivered; NULL: it could.
ALTER TABLE sinks ADD COLUMN build_error TEXT;
ALTER TABLE sinks ADD COLUMN build_failed_since INTEGER;
-- A person has ended a sink that is not configured any more. Its name is 'forgotten:<id>' from then on, which no sink can
-- have, so that the name that it had, now former_name, may be used anew. last_seq is the last event that was still its
-- business: those after its cursor are discarded.
ALTER TABLE sinks ADD COLUMN forgotten_at INTEGER;
ALTER TABLE sinks ADD COLUMN forgotten_by INTEGER;                 -- the job, which says who and why

-- Failures of a parked event between which others were delivered: it is at fault itself, not the sink.
ALTER TABLE parked ADD COLUMN own_failures INTEGER NOT NULL DEFAULT 0;

-- What far sides answered to attempts that failed, see answers.rs. By event: they go with its body.
CREATE TABLE answers (
    seq     INTEGER NOT NULL,
    sink_id INTEGER NOT NULL,
    n       INTEGER NOT NULL,           -- the attempt
    answer  TEXT NOT NULL,
    PRIMARY KEY (seq, sink_id, n)
) STRICT, WITHOUT ROWID;
-- How far a job is that goes sink by sink, and what it has to tell at its end: JSON, see job/tally.rs.
ALTER TABLE jobs ADD COLUMN tally TEXT;

-- What replays gave up stays open for ever and is in no list: lists of a few letters must not read past a million.
ALTER TABLE dead_letters ADD COLUMN of_replay INTEGER NOT NULL DEFAULT 0;
UPDATE dead_letters SET of_replay = 1 WHERE sink_id IN (SELECT id FROM sinks WHERE job_id IS NOT NULL);
DROP INDEX dead_letters_open;
CREATE INDEX dead_letters_open ON dead_letters (id) WHERE discarded_at IS NULL AND of_replay = 0;
