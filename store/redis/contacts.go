package redis

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"heed/policy"
)

var (
	//go:embed lua/merge.lua
	mergeScript string
	//go:embed lua/inform.lua
	informScript string
	//go:embed lua/erase.lua
	eraseScript string
)

// A person's hash: the contact as JSON without the address, the address, one field for each opt-out, and one for each
// sender that told the person where its data came from.
const (
	contactField   = "c"
	addressField   = "a"
	optOutPrefix   = "o:"
	informedPrefix = "i:"
)

func personKey(person string) string { return "heed:{" + person + "}" }

var errNobody = errors.New("a person's key is empty")

// Facts reads up to a thousand persons in one round trip.
func (s *Store) Facts(ctx context.Context, persons []string) (map[string]policy.Facts, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	known := make(map[string]policy.Facts, len(persons))
	for part := range slices.Chunk(persons, chunk) {
		cmds := make([]redis.Cmder, len(part))
		for i, person := range part {
			cmds[i] = redis.NewMapStringStringCmd(ctx, "hgetall", personKey(person))
		}
		if err := s.read(ctx, cmds...); err != nil {
			return nil, err
		}
		for i, person := range part {
			f, ok, err := readFacts(cmds[i].(*redis.MapStringStringCmd).Val())
			if err != nil {
				return nil, fmt.Errorf("person %s: %w", person, err)
			}
			if ok {
				known[person] = f
			}
		}
	}
	return known, nil
}

// readFacts tells false for a stranger: one of whom at most the address is known.
func readFacts(fields map[string]string) (f policy.Facts, known bool, err error) {
	if c := fields[contactField]; c != "" {
		known = true
		if err := json.Unmarshal([]byte(c), &f.Contact); err != nil {
			return f, false, err
		}
	}
	f.Contact.Address = fields[addressField]
	for name, value := range fields {
		if sender, ok := strings.CutPrefix(name, informedPrefix); ok {
			var i policy.Informed
			if err := json.Unmarshal([]byte(value[min(timeLen, len(value)):]), &i); err != nil {
				return f, false, err
			}
			if f.Informed == nil {
				f.Informed = map[string]policy.Informed{}
			}
			f.Informed[sender], known = i, true
			continue
		}
		if !strings.HasPrefix(name, optOutPrefix) {
			continue
		}
		var o policy.OptOut
		if err := json.Unmarshal([]byte(value), &o); err != nil {
			return f, false, err
		}
		f.OptOuts, known = append(f.OptOuts, o), true
	}
	slices.SortFunc(f.OptOuts, func(a, b policy.OptOut) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Sender, b.Sender), cmp.Compare(a.Topic, b.Topic))
	})
	return f, known, nil
}

// Merge merges each contact by itself: it is replaced if nobody else changed it since it was read, else read again.
func (s *Store) Merge(ctx context.Context, contacts map[string]policy.Contact) error {
	if _, ok := contacts[""]; ok {
		return errNobody
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	for part := range slices.Chunk(slices.Sorted(maps.Keys(contacts)), chunk) {
		for try := 0; len(part) > 0; try++ {
			if try == 50 {
				return fmt.Errorf("%d contacts kept changing while they were merged: try again", len(part))
			}
			changed, err := s.mergeOnce(ctx, part, contacts)
			if err != nil {
				return err
			}
			part = changed
		}
	}
	return nil
}

// mergeOnce returns the persons whose contact changed meanwhile.
func (s *Store) mergeOnce(ctx context.Context, persons []string, contacts map[string]policy.Contact) ([]string, error) {
	cmds := make([]redis.Cmder, len(persons))
	for i, person := range persons {
		cmds[i] = redis.NewSliceCmd(ctx, "hmget", personKey(person), contactField, addressField)
	}
	if err := s.read(ctx, cmds...); err != nil {
		return nil, err
	}
	for i, person := range persons {
		values := cmds[i].(*redis.SliceCmd).Val()
		stored, _ := values[0].(string)
		address, _ := values[1].(string)
		f, _, err := readFacts(map[string]string{contactField: stored, addressField: address})
		if err != nil {
			return nil, fmt.Errorf("person %s: %w", person, err)
		}
		merged := f.Contact.Merge(contacts[person])
		address, merged.Address = merged.Address, ""
		b, err := json.Marshal(merged)
		if err != nil {
			return nil, err
		}
		cmds[i] = script(ctx, mergeScript, personKey(person), stored, b, address)
	}
	if _, err := s.repeat(ctx, cmds...); err != nil {
		return nil, err
	}
	var changed []string
	for i, person := range persons {
		if n, err := cmds[i].(*redis.Cmd).Int(); err != nil {
			return nil, err
		} else if n == 0 {
			changed = append(changed, person)
		}
	}
	return changed, nil
}

// normalised is the form that Address promises; what cannot be normalised is kept as it is.
func normalised(address string) string {
	if n, err := policy.Normalise(address); err == nil {
		return n
	}
	return address
}

// inform notes what a person was told.
func inform(ctx context.Context, person, sender string, i policy.Informed) (redis.Cmder, error) {
	b, err := json.Marshal(i)
	return script(ctx, informScript, personKey(person), informedPrefix+sender, stamp(i.At)+string(b)), err
}

// Erase removes the contact, what was told, and the address. Journal entries up to now stay without an address for good.
func (s *Store) Erase(ctx context.Context, person string) (bool, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	gone := script(ctx, eraseScript, personKey(person))
	if err := s.write(ctx, gone, script(ctx, journalEraseScript, journalKey, person)); err != nil {
		return false, err
	}
	n, err := gone.Int()
	return n > 0, err
}

// Address is the address of a person who was not erased.
func (s *Store) Address(ctx context.Context, person string) (string, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	address := redis.NewStringCmd(ctx, "hget", personKey(person), addressField)
	if err := s.read(ctx, address); err != nil {
		return "", err
	}
	return address.Val(), nil
}
