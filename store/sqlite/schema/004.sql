-- Who was given a sender's notice of where the data came from, so that it is given once.
CREATE TABLE informed (
	person   TEXT NOT NULL,
	sender   TEXT NOT NULL,
	at       INTEGER NOT NULL,
	informed TEXT NOT NULL, -- JSON
	PRIMARY KEY (person, sender)
) STRICT, WITHOUT ROWID;
