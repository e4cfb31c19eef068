package main

import (
	"encoding/csv"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// rejects writes bad rows with their line and reason; there is no file where there are none.
type rejects struct {
	file    string
	columns []string
	n       int
	out     *os.File
	w       *csv.Writer
}

// newRejects makes the file's name from that of the import: contacts.csv becomes contacts.rejected.csv. One that an
// earlier import left is removed.
func newRejects(imported string, columns []string) (*rejects, error) {
	r := &rejects{file: strings.TrimSuffix(imported, ".csv") + ".rejected.csv", columns: columns}
	if err := os.Remove(r.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return r, nil
}

func (r *rejects) add(line int, cells []string, reason string) error {
	if r.out == nil {
		out, err := os.OpenFile(r.file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		r.out, r.w = out, csv.NewWriter(out)
		if err := r.w.Write(append([]string{"line", "reason"}, r.columns...)); err != nil {
			return err
		}
	}
	r.n++
	return r.w.Write(append([]string{strconv.Itoa(line), reason}, cells...))
}

func (r *rejects) close() error {
	if r.out == nil {
		return nil
	}
	r.w.Flush()
	return errors.Join(r.w.Error(), r.out.Close())
}
