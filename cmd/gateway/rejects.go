package main

import (
	"encoding/csv"
	"errors"
	"os"
	"strconv"
)

// rejects writes bad rows with their line and reason; there is no file where there are none.
type rejects struct {
	file    string
	columns []string
	n       int
	out     *os.File
	w       *csv.Writer
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
