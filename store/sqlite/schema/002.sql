-- What is being sent, and what clients were told of what was: a message that comes again is not sent again.
CREATE TABLE guard (
	key    TEXT PRIMARY KEY,
	until  INTEGER NOT NULL,
	token  TEXT NOT NULL, -- of the transaction that marked it
	answer BLOB NOT NULL  -- empty while it is in flight
) STRICT, WITHOUT ROWID;
CREATE INDEX guard_until ON guard (until);
