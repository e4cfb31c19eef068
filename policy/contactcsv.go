package policy

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// contactColumns are the columns that a contacts file may have; email is required.
var contactColumns = []string{
	"email", "country", "address_kind", "subscriber_type", "address_published", "language", "sender", "collected_by",
	"collected_at", "source", "relationship", "relationship_at", "products", "objection_offered", "consent", "consent_topics",
	"consent_at", "consent_place", "consent_expires_at", "consent_withdrawn_at", "consent_evidence",
}

// ContactsFile reads contacts from CSV (RFC 4180, UTF-8, a header row): one row is what one source knows of one address
// and one sender.
type ContactsFile struct {
	in      *csv.Reader
	columns []string
	senders []string
}

// OpenContacts reads the header row. senders are the configured ids; where there is just one, a row may leave its sender
// empty.
func OpenContacts(src io.Reader, senders []string) (*ContactsFile, error) {
	in := csv.NewReader(skipBOM(src))
	in.FieldsPerRecord = -1 // a short row is that row's mistake, not the file's
	head, err := in.Read()
	if err != nil {
		return nil, fmt.Errorf("no header row: %w", err)
	}
	seen := map[string]bool{}
	for i, name := range head {
		name = strings.ToLower(strings.TrimSpace(name))
		head[i] = name
		if !slices.Contains(contactColumns, name) {
			hint := ""
			if strings.ContainsAny(name, ";\t") {
				hint = "; columns are separated by commas"
			}
			return nil, fmt.Errorf("unknown column %q%s; the columns are %s", name, hint, strings.Join(contactColumns, ", "))
		}
		if seen[name] {
			return nil, fmt.Errorf("column %q stands twice", name)
		}
		seen[name] = true
	}
	if !seen["email"] {
		return nil, errors.New(`there is no column "email"`)
	}
	return &ContactsFile{in: in, columns: slices.Clone(head), senders: senders}, nil
}

// Columns are the file's columns in order.
func (f *ContactsFile) Columns() []string { return f.columns }

// Next is the next row: its line, its cells as they stand and what it says. io.EOF ends the file; a *RowError is this
// row's alone, the next may be read; any other error is the reader's and final.
func (f *ContactsFile) Next() (line int, cells []string, c Contact, err error) {
	cells, err = f.in.Read()
	var syntax *csv.ParseError
	if errors.As(err, &syntax) {
		return syntax.StartLine, cells, Contact{}, &RowError{"row", syntax.Err.Error()}
	}
	if err != nil {
		return 0, nil, Contact{}, err
	}
	line, _ = f.in.FieldPos(0)
	if len(cells) != len(f.columns) {
		return line, cells, Contact{}, &RowError{"row", fmt.Sprintf("%d cells, the header has %d", len(cells), len(f.columns))}
	}
	row := rowReader{cells: map[string]string{}}
	for i, name := range f.columns {
		if !utf8.ValidString(cells[i]) {
			return line, cells, Contact{}, &RowError{name, "is not UTF-8: save the file as \"CSV UTF-8\""}
		}
		row.cells[name] = strings.TrimSpace(cells[i])
	}
	c = row.contact(f.senders)
	if row.err != nil {
		return line, cells, Contact{}, row.err
	}
	return line, cells, c, nil
}

// RowError is a mistake in one row.
type RowError struct{ Column, Reason string }

func (e *RowError) Error() string { return e.Column + ": " + e.Reason }

// rowReader takes typed values from one row and keeps the first mistake.
type rowReader struct {
	cells map[string]string
	err   error
}

func (r *rowReader) fail(column, format string, args ...any) {
	if r.err == nil {
		r.err = &RowError{column, fmt.Sprintf(format, args...)}
	}
}

func (r *rowReader) contact(senders []string) Contact {
	address, err := Normalise(r.cells["email"])
	if err != nil {
		r.fail("email", "%v", err)
	}
	at := r.date("collected_at")
	c := Contact{
		Address:          address,
		AddressKind:      dated(Kind(r.word("address_kind", "individual", "generic", "consumer")), at),
		SubscriberType:   dated(r.word("subscriber_type", "corporate", "individual"), at),
		AddressPublished: dated(r.word("address_published", "yes", "no"), at),
		Language:         dated(strings.ToLower(r.cells["language"]), at),
	}
	if country := r.cells["country"]; country != "" {
		code, err := ParseCountry(country)
		if err != nil {
			r.fail("country", "%v", err)
		}
		c.Country = Dated[[]string]{[]string{code}, at}
	}
	relation := r.relation(at)
	consent, given := r.consent()
	if relation == nil && !given {
		return c
	}
	sender := r.sender(senders)
	if relation != nil {
		c.Relations = map[string]Relation{sender: *relation}
	}
	if given {
		consent.Sender = sender
		c.Consents = []Consent{consent}
	}
	return c
}

func (r *rowReader) relation(collectedAt time.Time) *Relation {
	at := r.date("relationship_at")
	if at.IsZero() {
		at = collectedAt
	}
	rel := Relation{
		CollectedBy:      dated(r.cells["collected_by"], collectedAt),
		Source:           dated(r.cells["source"], collectedAt),
		Relationship:     dated(r.word("relationship", "none", "sale", "negotiation", "inquiry"), at),
		ObjectionOffered: dated(r.word("objection_offered", "yes", "no"), collectedAt),
	}
	if products := r.list("products"); products != nil {
		slices.Sort(products)
		rel.Products = Dated[[]string]{slices.Compact(products), at}
	}
	if rel.CollectedBy.Value == "" && rel.Source.Value == "" && rel.Relationship.Value == "" && rel.ObjectionOffered.Value == "" && rel.Products.Value == nil {
		return nil
	}
	return &rel
}

func (r *rowReader) consent() (Consent, bool) {
	c := Consent{
		Method: Method(r.word("consent", "none", "single", "double")), At: r.date("consent_at"), Place: r.cells["consent_place"],
		ExpiresAt: r.date("consent_expires_at"), WithdrawnAt: r.date("consent_withdrawn_at"), Evidence: r.cells["consent_evidence"],
	}
	if topics := r.list("consent_topics"); topics != nil {
		slices.Sort(topics)
		c.Topics = slices.Compact(topics)
	}
	if c.Method == "" || c.Method == NoConsent {
		c.Method = NoConsent
		return c, !c.WithdrawnAt.IsZero()
	}
	return c, true
}

func (r *rowReader) sender(senders []string) string {
	id := r.cells["sender"]
	switch {
	case id == "" && len(senders) == 1:
		return senders[0]
	case id == "":
		r.fail("sender", "is empty; name one of %s", strings.Join(senders, ", "))
	case !slices.Contains(senders, id):
		r.fail("sender", "%q is not configured; name one of %s", id, strings.Join(senders, ", "))
	}
	return id
}

func (r *rowReader) word(column string, allowed ...string) string {
	v := strings.ToLower(r.cells[column])
	if v != "" && !slices.Contains(allowed, v) {
		r.fail(column, "%q: use one of %s", v, strings.Join(allowed, ", "))
		return ""
	}
	return v
}

func (r *rowReader) list(column string) []string {
	var found []string
	for v := range strings.SplitSeq(r.cells[column], ";") {
		if v = strings.TrimSpace(v); v != "" {
			found = append(found, v)
		}
	}
	return found
}

// date reads ISO 8601: a day, which starts at midnight UTC, or a time with its offset.
func (r *rowReader) date(column string) time.Time {
	v := r.cells[column]
	if v == "" {
		return time.Time{}
	}
	t, err := ParseTime(v)
	if err != nil {
		r.fail(column, "%v", err)
	}
	return t
}

// ParseTime reads an ISO 8601 day (midnight UTC) or RFC 3339 time.
func ParseTime(v string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04Z07:00"} {
		if t, err := time.Parse(layout, v); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not an ISO 8601 date such as 2026-01-31 or 2026-01-31T12:00:00Z", v)
}

// dated is a value with its date; where there is no value there is no date either.
func dated[T comparable](v T, at time.Time) Dated[T] {
	if v == *new(T) {
		return Dated[T]{}
	}
	return Dated[T]{v, at}
}

// skipBOM drops a UTF-8 byte order mark, which spreadsheets write.
func skipBOM(src io.Reader) io.Reader {
	head := make([]byte, 3)
	n, _ := io.ReadFull(src, head)
	if string(head[:n]) == "\ufeff" {
		return src
	}
	return io.MultiReader(strings.NewReader(string(head[:n])), src)
}
