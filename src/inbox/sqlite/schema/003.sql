-- The index of ids and entity keys as sorted runs that are never changed: one is written from memory when enough keys
-- have gathered, and several are merged into one. A B-tree over random keys would rewrite a page for nearly each.
CREATE TABLE index_runs (
    id          INTEGER PRIMARY KEY,
    kind        INTEGER NOT NULL,       -- 1 hashes of (source, event id), 2 of (source, entity key)
    level       INTEGER NOT NULL,       -- 0: written from memory
    state       INTEGER NOT NULL,       -- 1 being written, 2 complete, 3 to be dropped
    merged_into INTEGER                 -- the run that takes its place once that is complete
) STRICT;

CREATE TABLE index_chunks (
    id         INTEGER PRIMARY KEY,
    run        INTEGER NOT NULL,
    first_hash INTEGER NOT NULL,
    first_seq  INTEGER NOT NULL,
    keys       BLOB NOT NULL            -- sorted (hash, seq), each two big-endian signed 64-bit numbers
) STRICT;
CREATE UNIQUE INDEX index_chunks_order ON index_chunks (run, first_hash, first_seq);
