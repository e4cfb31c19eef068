package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"heed/policy"
)

const maxBody = 8 << 20 // bytes; policy.MaxInquiry addresses of 254 characters take 3 MiB, escaped a little more

// check answers POST /api/v1/check: what would be decided, for up to 10,000 recipients.
func (h *Handler) check(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	select {
	case h.checks <- struct{}{}:
		defer func() { <-h.checks }()
	case <-ctx.Done():
		h.busy(w, ctx.Err())
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		refuse(w, http.StatusRequestEntityTooLarge, "too_big", fmt.Sprintf("the body has over %d bytes", maxBody))
		return
	case err != nil:
		refuse(w, http.StatusBadRequest, "bad_input", "the body ended early")
		return
	}
	q, err := readInquiry(body)
	if err != nil {
		refuse(w, http.StatusBadRequest, "bad_input", err.Error())
		return
	}
	decisions, err := h.Checker.Check(ctx, q)
	var bad policy.BadInquiry
	switch {
	case errors.As(err, &bad):
		refuse(w, http.StatusBadRequest, "bad_input", bad.Error())
	case err != nil:
		h.busy(w, err)
	default:
		writeDecisions(w, decisions)
	}
}

// busy is for what is not the asker's fault: the detail stays in the log.
func (h *Handler) busy(w http.ResponseWriter, err error) {
	h.Log.Error("check could not be answered", "error", err)
	w.Header().Set("Retry-After", oneMoreTry)
	refuse(w, http.StatusServiceUnavailable, "unavailable", "the check cannot be answered just now; try again")
}

// readInquiry reads the request and names the field of every mistake. Unknown fields are mistakes: a misspelt
// "country" would else be answered as if there were none.
func readInquiry(body []byte) (policy.Inquiry, error) {
	var q policy.Inquiry
	var at string
	known := map[string]any{
		"account": &q.Account, "recipients": &q.Recipients, "topic": &q.Topic, "product": &q.Product, "country": &q.Country, "at": &at,
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return q, fmt.Errorf("the body must be one JSON object: %s", inWords(err))
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		target, ok := known[name]
		if !ok {
			return q, fmt.Errorf("unknown field %.100q; known are %s", name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		if err := json.Unmarshal(fields[name], target); err != nil {
			return q, fmt.Errorf("%s: %s", name, inWords(err))
		}
	}
	if q.Account == "" {
		return q, errors.New("account: name one")
	}
	if at != "" {
		t, err := time.Parse(time.RFC3339, at)
		if err != nil {
			return q, fmt.Errorf("at: %.100q is not a time like 2026-11-23T10:15:00Z (RFC 3339)", at)
		}
		q.At = t
	}
	return q, nil
}

// inWords leaves the names of Go out.
func inWords(err error) string {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		want := map[string]string{"string": "a string", "[]string": "a list of strings"}[kind.Type.String()]
		if want == "" {
			want = "an object"
		}
		return fmt.Sprintf("%s where %s is expected", kind.Value, want)
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Sprintf("%s at byte %d", syntax, syntax.Offset)
	}
	return err.Error()
}

// writeDecisions writes one decision after the other: the text of all of them is many times the decisions.
func writeDecisions(w http.ResponseWriter, decisions []policy.Decision) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	var b bytes.Buffer
	enc := encoder(&b)
	b.WriteString(`{"decisions":[`)
	for i, d := range decisions {
		if i > 0 {
			b.WriteByte(',')
		}
		// Lists are never null: clients loop over them.
		if d.Checks == nil {
			d.Checks = []policy.Check{}
		}
		if d.Notices == nil {
			d.Notices = []string{}
		}
		if enc.Encode(d) != nil { // strings and lists of strings: it cannot fail
			return
		}
		if _, err := b.WriteTo(w); err != nil {
			return
		}
	}
	b.WriteString("]}\n")
	_, _ = b.WriteTo(w) // whoever asked has hung up
}

// encoder leaves <, > and & as they are: the answers are for programs, and reasons quote addresses.
func encoder(w io.Writer) *json.Encoder {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e
}
