-- What the sender of a quarantined request was answered. 401: it never sends it again, so the request is never evicted.
-- 503: it sends it again, so the request may make room for another. What an older version kept counts as answered 401.
ALTER TABLE quarantine ADD COLUMN answer INTEGER NOT NULL DEFAULT 401;
DROP INDEX quarantine_by_peer;
CREATE INDEX quarantine_by_answer ON quarantine (peer, answer, id);

-- Requests that were refused for their signature, answered 503 and not kept, or evicted after that, by source: of late,
-- see not_kept.rs.
CREATE TABLE not_kept (
    source   TEXT PRIMARY KEY,
    requests INTEGER NOT NULL,
    since    INTEGER NOT NULL,
    last_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- The time that retention believes, see inbox/believed.rs.
CREATE TABLE believed_clock (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    at           INTEGER NOT NULL,
    allowance_us INTEGER NOT NULL,      -- how much further the clock may jump before the machine starts again
    boot         TEXT NOT NULL,         -- which start of the machine it was noted in
    uptime_us    INTEGER NOT NULL       -- how long after that
) STRICT;

-- From here on, an event whose id was there before with another body has a key of its own in the index, over its id and its
-- body. Those before it are found by their ids alone.
ALTER TABLE index_state ADD COLUMN bodies_after INTEGER NOT NULL DEFAULT 0;
UPDATE index_state SET bodies_after = watermark;
