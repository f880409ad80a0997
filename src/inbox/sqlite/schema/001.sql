-- The log. `events` and `bodies` grow only at their ends: the acknowledging commit appends to both and touches no
-- other page. Bodies stand apart so that retention frees whole pages, and so that lists need not read past them.
CREATE TABLE events (
    seq          INTEGER PRIMARY KEY,
    source_id    INTEGER NOT NULL,
    event_id     TEXT NOT NULL,
    type         TEXT NOT NULL,
    category     INTEGER NOT NULL,      -- see rows.rs
    entity_key   TEXT,                  -- NULL: the event names no entity, and is its own
    state        TEXT,
    phase        INTEGER NOT NULL,      -- 0 none, 1 open, 2 final
    event_time   INTEGER,               -- all times: microseconds since 1970, UTC
    received_at  INTEGER NOT NULL,
    size         INTEGER NOT NULL,
    body_sha256  BLOB NOT NULL,
    signature    TEXT NOT NULL,         -- the header's value as received
    secret_slot  INTEGER NOT NULL,
    verdict      INTEGER NOT NULL,      -- 1: the signature held when it came in
    conflict     INTEGER NOT NULL,      -- 1: another event with this id and other bytes came first
    content_type TEXT,
    headers      TEXT NOT NULL          -- JSON: [[name, value], ...]
) STRICT;

CREATE TABLE bodies (
    seq  INTEGER PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE sources (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- Hash of (source, event id), and of (source, entity key), to seq. Maintained in sorted portions behind the
-- acknowledgement: complete up to `index_state.watermark`; above it, the log itself is the truth. A hash only points:
-- every hit is checked against the row.
CREATE TABLE id_index (
    hash INTEGER NOT NULL,
    seq  INTEGER NOT NULL,
    PRIMARY KEY (hash, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE entity_index (
    hash INTEGER NOT NULL,
    seq  INTEGER NOT NULL,
    PRIMARY KEY (hash, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE index_state (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    watermark INTEGER NOT NULL
) STRICT;
INSERT INTO index_state VALUES (1, 0);

-- Duplicates of an event, counted behind the acknowledgement.
CREATE TABLE arrivals (
    seq     INTEGER PRIMARY KEY,
    again   INTEGER NOT NULL,
    last_at INTEGER NOT NULL
) STRICT;

CREATE TABLE sinks (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    cursor     INTEGER NOT NULL,        -- every event up to here is final or parked
    first_seq  INTEGER NOT NULL,        -- the first event that is this sink's business
    created_at INTEGER NOT NULL
) STRICT;

-- Which route decided, from which event on: what it did not want was filtered.
CREATE TABLE route_revisions (
    sink_id  INTEGER NOT NULL,
    from_seq INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    route    TEXT NOT NULL,
    PRIMARY KEY (sink_id, from_seq, at)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
    sink_id    INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    n          INTEGER NOT NULL,        -- 1 for the event's first attempt at this sink
    at         INTEGER NOT NULL,
    latency_us INTEGER NOT NULL,
    outcome    INTEGER NOT NULL,        -- 1 delivered, 2 transient, 3 permanent
    note       TEXT NOT NULL,           -- receipt or reason
    PRIMARY KEY (sink_id, seq, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE parked (
    sink_id       INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    attempts      INTEGER NOT NULL,
    first_attempt INTEGER,
    next_attempt  INTEGER NOT NULL,
    PRIMARY KEY (sink_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letters (
    id       INTEGER PRIMARY KEY,
    sink_id  INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    reason   TEXT NOT NULL,
    at       INTEGER NOT NULL,
    UNIQUE (sink_id, seq)
) STRICT;

CREATE TABLE quarantine (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    source       TEXT NOT NULL,
    peer         TEXT NOT NULL,         -- an IPv6 peer is its /64
    received_at  INTEGER NOT NULL,
    reason       TEXT NOT NULL,
    body_sha256  BLOB NOT NULL,
    signatures   TEXT NOT NULL,         -- JSON: [value, ...]
    content_type TEXT,
    headers      TEXT NOT NULL,         -- JSON: [[name, value], ...]
    body         BLOB NOT NULL,
    UNIQUE (source, body_sha256, signatures)
) STRICT;
CREATE INDEX quarantine_by_peer ON quarantine (peer, id);
