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
