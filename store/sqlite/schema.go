package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// applicationID marks the file as ours ("HEED"), so that another program's database is not written into.
const applicationID = 0x48454544

// The schema's steps in order; PRAGMA user_version counts those that were taken.
//
//go:embed schema/*.sql
var schema embed.FS

// initialise checks the file, puts it into WAL mode and takes the schema's missing steps.
func initialise(ctx context.Context, db *sql.DB, log *slog.Logger) error {
	steps, err := schema.ReadDir("schema")
	if err != nil {
		return err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	version, err := recognise(ctx, conn, len(steps))
	if err != nil {
		return err
	}
	if err := check(ctx, conn, log); err != nil {
		return err
	}
	if err := wal(ctx, conn); err != nil {
		return err
	}
	if version == len(steps) {
		return nil // without waiting for a writer in another process
	}
	return migrate(ctx, conn, len(steps))
}

// recognise refuses what is not ours or newer than this program. Its first read finds a file that is no database.
func recognise(ctx context.Context, conn *sql.Conn, steps int) (version int, err error) {
	var tables, application int
	err = conn.QueryRowContext(ctx, `SELECT count(*), (SELECT user_version FROM pragma_user_version),
		(SELECT application_id FROM pragma_application_id) FROM sqlite_schema`).Scan(&tables, &version, &application)
	switch {
	case err != nil:
		return 0, err
	case tables > 0 && application != applicationID:
		return 0, errors.New("the file is another program's database: name another file")
	case version > steps:
		return 0, fmt.Errorf("the file has schema %d, this program knows %d: use the newer program that wrote it, or restore a backup made before the upgrade", version, steps)
	}
	return version, nil
}

// check looks for damage. A big file is not read to its end: damage found later fails the operation that meets it.
func check(ctx context.Context, conn *sql.Conn, log *slog.Logger) error {
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var found string
	err := conn.QueryRowContext(short, "PRAGMA quick_check(1)").Scan(&found)
	switch {
	case short.Err() != nil && ctx.Err() == nil:
		log.Info("state is too big to be checked for damage at start")
		return nil
	case err != nil:
		return err
	case found != "ok":
		return fmt.Errorf("%w (%s)", errDamaged, found)
	}
	return nil
}

// wal changes the journal mode, which another process's lock fails at once instead of waiting.
func wal(ctx context.Context, conn *sql.Conn) error {
	for {
		var mode string
		err := conn.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode)
		switch {
		case err == nil && mode == "wal":
			return nil
		case err == nil:
			return fmt.Errorf("the file system does not support SQLite's WAL (it answers %q): use a local disk, not a network share", mode)
		case !isBusy(err):
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// migrate takes the missing steps in one transaction; another process that starts at the same time waits.
func migrate(ctx context.Context, conn *sql.Conn, steps int) error {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it has nothing to do
	var version int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	for n := version + 1; n <= steps; n++ {
		step, err := schema.ReadFile(fmt.Sprintf("schema/%03d.sql", n))
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, string(step)); err != nil {
			return fmt.Errorf("schema %d: %w", n, err)
		}
	}
	if version < steps {
		marks := fmt.Sprintf("PRAGMA user_version = %d; PRAGMA application_id = %d", steps, applicationID)
		if _, err := tx.ExecContext(ctx, marks); err != nil {
			return err
		}
	}
	return tx.Commit()
}
