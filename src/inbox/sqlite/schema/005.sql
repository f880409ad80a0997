-- The time that retention believes, see inbox/believed.rs.
CREATE TABLE believed_clock (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    at           INTEGER NOT NULL,
    allowance_us INTEGER NOT NULL,      -- how much further the clock may jump before the machine starts again
    boot         TEXT NOT NULL,         -- which start of the machine it was noted in
    uptime_us    INTEGER NOT NULL       -- how long after that
) STRICT;
