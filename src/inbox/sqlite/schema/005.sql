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
