package sqlite

import (
	"errors"
	"fmt"

	driver "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"
)

var (
	errDamaged = errors.New("the file is damaged: stop the gateway and restore the file from a backup")
	errClosed  = errors.New("the state is closed")
)

// explain puts a sentence for people before SQLite's.
func explain(err error) error {
	switch code(err) {
	case codes.SQLITE_FULL:
		return fmt.Errorf("the disk is full and nothing was kept of this write: make room: %w", err)
	case codes.SQLITE_CORRUPT:
		return fmt.Errorf("%w: %w", errDamaged, err)
	case codes.SQLITE_NOTADB:
		return fmt.Errorf("the file is not a SQLite database, or its head is damaged: name another file or restore it from a backup: %w", err)
	case codes.SQLITE_BUSY:
		return fmt.Errorf("another process holds the file's lock: %w", err)
	case codes.SQLITE_READONLY, codes.SQLITE_CANTOPEN, codes.SQLITE_PERM:
		return fmt.Errorf("the file or its folder cannot be written to: check their owner and mode: %w", err)
	}
	return err
}

// code is SQLite's primary result code, 0 where the error is not SQLite's.
func code(err error) int {
	if e := (*driver.Error)(nil); errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

func isBusy(err error) bool { return code(err) == codes.SQLITE_BUSY }
