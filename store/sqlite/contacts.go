package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"heed/policy"
)

const factsQuery = `
SELECT j.value, p.address, c.contact,
	(SELECT json_group_array(json(o.optout)) FROM optouts o WHERE o.person = j.value),
	(SELECT json_group_object(i.sender, json(i.informed)) FROM informed i WHERE i.person = j.value)
FROM json_each(?) j
LEFT JOIN contacts c ON c.person = j.value
LEFT JOIN persons p ON p.person = j.value`

// Facts reads all persons with one query.
func (s *Store) Facts(ctx context.Context, persons []string) (map[string]policy.Facts, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	known := make(map[string]policy.Facts, len(persons))
	if len(persons) == 0 {
		return known, nil
	}
	list, err := json.Marshal(persons)
	if err != nil {
		return nil, err
	}
	rows, err := s.facts.QueryContext(ctx, string(list))
	if err != nil {
		return nil, explain(err)
	}
	err = every(rows, func(r *sql.Rows) error {
		var person string
		var address, contact sql.NullString
		var optOuts, informed string
		if err := r.Scan(&person, &address, &contact, &optOuts, &informed); err != nil {
			return err
		}
		if !contact.Valid && optOuts == "[]" && informed == "{}" {
			return nil
		}
		f, err := readFacts(address.String, contact.String, optOuts, informed)
		if err != nil {
			return fmt.Errorf("person %s: %w", person, err)
		}
		known[person] = f
		return nil
	})
	if err != nil {
		return nil, explain(err)
	}
	return known, nil
}

func readFacts(address, contact, optOuts, informed string) (policy.Facts, error) {
	var f policy.Facts
	if contact != "" {
		if err := json.Unmarshal([]byte(contact), &f.Contact); err != nil {
			return f, err
		}
	}
	f.Contact.Address = address
	if optOuts != "[]" {
		if err := json.Unmarshal([]byte(optOuts), &f.OptOuts); err != nil {
			return f, err
		}
		slices.SortFunc(f.OptOuts, func(a, b policy.OptOut) int {
			return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Sender, b.Sender), cmp.Compare(a.Topic, b.Topic))
		})
	}
	if informed != "{}" {
		if err := json.Unmarshal([]byte(informed), &f.Informed); err != nil {
			return f, err
		}
	}
	return f, nil
}

// Merge merges all contacts in one transaction.
func (s *Store) Merge(ctx context.Context, contacts map[string]policy.Contact) error {
	if len(contacts) == 0 {
		return nil
	}
	own, err := ownCopy(contacts)
	if err != nil {
		return err
	}
	return s.write(ctx, 1024*len(own), func(t *tx) error {
		for person, c := range own {
			if err := merge(t, person, c); err != nil {
				return err
			}
		}
		return nil
	})
}

// ownCopy is what a write may read although its caller has left.
func ownCopy(contacts map[string]policy.Contact) (own map[string]policy.Contact, err error) {
	if _, ok := contacts[""]; ok {
		return nil, errNobody
	}
	b, err := json.Marshal(contacts)
	if err != nil {
		return nil, err
	}
	return own, json.Unmarshal(b, &own)
}

var errNobody = errors.New("a person's key is empty")

func merge(t *tx, person string, c policy.Contact) error {
	var address, stored sql.NullString
	err := t.row(`SELECT p.address, c.contact FROM (SELECT ? AS person) j
		LEFT JOIN persons p ON p.person = j.person LEFT JOIN contacts c ON c.person = j.person`, person).Scan(&address, &stored)
	if err != nil {
		return err
	}
	known, err := readFacts(address.String, stored.String, "[]", "{}")
	if err != nil {
		return fmt.Errorf("person %s: %w", person, err)
	}
	merged := known.Contact.Merge(c)
	if err := name(t, person, merged.Address); err != nil {
		return err
	}
	merged.Address = ""
	b, err := json.Marshal(merged)
	if err != nil || stored.Valid && string(b) == stored.String {
		return err
	}
	_, err = t.exec(`INSERT INTO contacts VALUES (?, ?)
		ON CONFLICT (person) DO UPDATE SET contact = excluded.contact`, person, string(b))
	return err
}

// name notes the address of a person who has none.
func name(t *tx, person, address string) error {
	if person == "" || address == "" {
		return nil
	}
	_, err := t.exec(`INSERT INTO persons (person, address) VALUES (?, ?)
		ON CONFLICT (person) DO UPDATE SET address = excluded.address WHERE address IS NULL`, person, address)
	return err
}

// normalised is the form that Address promises; what cannot be normalised is kept as it is.
func normalised(address string) string {
	if n, err := policy.Normalise(address); err == nil {
		return n
	}
	return address
}

// inform notes what a person was told, unless something later stands.
const inform = `INSERT INTO informed VALUES (?1, ?2, ?3, ?4) ON CONFLICT (person, sender) DO UPDATE
	SET at = excluded.at, informed = excluded.informed WHERE informed.at <= excluded.at`

// Erase removes the contact, what was told, and the address. Journal entries up to now stay without an address for good.
func (s *Store) Erase(ctx context.Context, person string) (bool, error) {
	var known bool
	err := s.write(ctx, 0, func(t *tx) error {
		contacts, err := t.exec("DELETE FROM contacts WHERE person = ?", person)
		if err != nil {
			return err
		}
		told, err := t.exec("DELETE FROM informed WHERE person = ?", person)
		if err != nil {
			return err
		}
		addresses, err := t.exec("UPDATE persons SET address = NULL WHERE person = ? AND address IS NOT NULL", person)
		if err != nil {
			return err
		}
		known = contacts+told+addresses > 0
		_, err = t.exec(`INSERT INTO persons (person, erased)
			SELECT person, max(seq) FROM journal WHERE person = ? GROUP BY person
			ON CONFLICT (person) DO UPDATE SET erased = excluded.erased`, person)
		if err != nil {
			return err
		}
		_, err = t.exec(`DELETE FROM persons WHERE person = ? AND address IS NULL AND erased = 0`, person)
		return err
	})
	if err != nil {
		return false, err
	}
	return known, nil
}

// Address is the address of a person who was not erased.
func (s *Store) Address(ctx context.Context, person string) (string, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var address sql.NullString
	err := s.reads.QueryRowContext(ctx, "SELECT address FROM persons WHERE person = ?", person).Scan(&address)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", explain(err)
	}
	return address.String, nil
}
