-- Evidence, in one migration. Nothing is rewritten: columns and tables are added.

-- Secrets that have signed what is stored, by their fingerprints, see verify/fingerprint.rs.
CREATE TABLE secrets (
    id          INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL UNIQUE,   -- 16 hex digits
    first_at    INTEGER NOT NULL        -- when the first event came that it had signed
) STRICT;
ALTER TABLE events ADD COLUMN secret_id INTEGER; -- NULL: a version stored it that noted only the slot
ALTER TABLE events ADD COLUMN peer TEXT;         -- the sender's address; NULL: a version stored it that did not note it

-- Events whose signature did not hold when they came in: `events.verdict` is 2. They waited in the quarantine.
CREATE TABLE admissions (
    seq     INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    job_id  INTEGER NOT NULL,           -- says who, and why
    request INTEGER NOT NULL,           -- its number in the quarantine
    refused TEXT NOT NULL               -- why it was refused when it came in
) STRICT;

-- Events whose stored body has not the SHA-256 of what came in: somebody has altered the file, or it is damaged. Noted when
-- such a body is read.
CREATE TABLE altered_bodies (
    seq         INTEGER PRIMARY KEY,
    found_at    INTEGER NOT NULL,
    body_sha256 BLOB NOT NULL           -- of the body as it was found
) STRICT;

-- Dead letters that were tried again. They keep their numbers, which stand for no other.
CREATE TABLE retried_letters (
    id         INTEGER PRIMARY KEY,
    sink_id    INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    reason     TEXT NOT NULL,
    at         INTEGER NOT NULL,
    retried_at INTEGER NOT NULL,
    job_id     INTEGER NOT NULL         -- says who, and why
) STRICT;
ALTER TABLE dead_letters ADD COLUMN job_id INTEGER; -- that discarded it; NULL: nobody did, or in an older version
CREATE INDEX dead_letters_discarded ON dead_letters (id) WHERE discarded_by IS NOT NULL AND of_replay = 0;

-- What a job was about: the first ones, up to a bound, see job/items.rs.
CREATE TABLE job_items (
    job_id      INTEGER NOT NULL,
    n           INTEGER NOT NULL,       -- from 1 on
    sink_id     INTEGER,
    number      INTEGER,                -- of a dead letter, or of a quarantined request
    seq         INTEGER,                -- of an event
    body_sha256 BLOB,                   -- of a request that is gone
    PRIMARY KEY (job_id, n)
) STRICT, WITHOUT ROWID;

-- What each sink was, from when on.
CREATE TABLE sink_revisions (
    sink_id  INTEGER NOT NULL,
    revision INTEGER NOT NULL,          -- from 1 on
    at       INTEGER NOT NULL,
    from_seq INTEGER NOT NULL,          -- the first event after its cursor then
    type     TEXT NOT NULL,
    target   TEXT NOT NULL,             -- without secrets
    route    TEXT NOT NULL,
    because  TEXT NOT NULL,             -- 'start' or 'reload'
    PRIMARY KEY (sink_id, revision)
) STRICT, WITHOUT ROWID;
ALTER TABLE attempts ADD COLUMN revision INTEGER; -- of its sink; NULL: an older version made the attempt
ALTER TABLE attempts ADD COLUMN batch INTEGER;    -- the hand-over that evidence seals it in; NULL: none
