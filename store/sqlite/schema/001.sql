-- Times are Unix nanoseconds, 0 for none.
CREATE TABLE meta (
	key   TEXT PRIMARY KEY,
	value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The only place of addresses. erased is the last journal entry at the time of an erasure: entries up to it stay
-- without an address even when the person becomes known again.
CREATE TABLE persons (
	person  TEXT PRIMARY KEY,
	address TEXT,
	erased  INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE contacts (
	person  TEXT PRIMARY KEY,
	contact TEXT NOT NULL -- JSON, without the address
) STRICT;

CREATE TABLE optouts (
	person TEXT NOT NULL,
	scope  TEXT NOT NULL,
	sender TEXT NOT NULL,
	topic  TEXT NOT NULL,
	optout TEXT NOT NULL, -- JSON
	PRIMARY KEY (person, scope, sender, topic)
) STRICT, WITHOUT ROWID;

CREATE TABLE journal (
	seq        INTEGER PRIMARY KEY AUTOINCREMENT,
	id         TEXT NOT NULL UNIQUE,
	at         INTEGER NOT NULL,
	person     TEXT NOT NULL,
	message_id TEXT NOT NULL,
	action     TEXT NOT NULL,
	named      INTEGER NOT NULL, -- 1: it came with an address
	entry      TEXT NOT NULL     -- JSON, without the address
) STRICT;
CREATE INDEX journal_at ON journal (at);
CREATE INDEX journal_person ON journal (person, at);
CREATE INDEX journal_message ON journal (message_id, at);
CREATE INDEX journal_action ON journal (action, at);

CREATE TABLE bodies (
	id   INTEGER PRIMARY KEY AUTOINCREMENT,
	size INTEGER NOT NULL,
	body BLOB NOT NULL
) STRICT;

CREATE TABLE copies (
	id    TEXT PRIMARY KEY,
	body  INTEGER NOT NULL,
	due   INTEGER NOT NULL,
	node  TEXT NOT NULL,    -- who holds or last held the lease, '' once given up
	lease INTEGER NOT NULL, -- when it ends, 0: not leased
	meta  BLOB NOT NULL
) STRICT;
CREATE INDEX copies_due ON copies (due, id);
CREATE INDEX copies_body ON copies (body);

-- The bytes of all bodies, kept with every change of them, so that a limit costs no scan.
CREATE TABLE spool_size (bytes INTEGER NOT NULL) STRICT;
INSERT INTO spool_size VALUES (0);
