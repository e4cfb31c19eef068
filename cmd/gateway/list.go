package main

import (
	"fmt"
	"io"
)

// list prints many values as they come: lines, or one JSON object that holds them in an array.
type list struct {
	*app
	name string
	n    int
	err  error
}

func newList(a *app, name string) *list { return &list{app: a, name: name} }

// add prints one value; false: the output is gone.
func (l *list) add(v any, line string) bool {
	if !l.json {
		_, l.err = fmt.Fprintln(l.out, line)
	} else {
		before := ","
		if l.n == 0 {
			before = fmt.Sprintf("{%q: [", l.name)
		}
		if _, l.err = io.WriteString(l.out, before+"\n"); l.err == nil {
			l.err = l.printJSON(v)
		}
	}
	l.n++
	return l.err == nil
}

func (l *list) end() error {
	if l.json && l.err == nil {
		if l.n == 0 {
			_, l.err = fmt.Fprintf(l.out, "{%q: []}\n", l.name)
		} else {
			_, l.err = io.WriteString(l.out, "]}\n")
		}
	}
	return l.err
}
