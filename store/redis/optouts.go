package redis

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/redis/go-redis/v9"

	"heed/policy"
)

var (
	//go:embed lua/optout_add.lua
	addScript string
	//go:embed lua/optout_remove.lua
	removeScript string
)

// objectors is an index for listing only, written before the opt-out and never shortened: no decision depends on it.
const objectors = "heed:{optouts}:persons"

// canonical is the opt-out as its key has it.
func canonical(person string, o policy.OptOut) (policy.OptOut, error) {
	if person == "" {
		return o, errNobody
	}
	return o.Canonical()
}

// optOutField is the hash field of an opt-out; escaping keeps a colon in a name from making two of them one.
func optOutField(o policy.OptOut) string {
	return optOutPrefix + string(o.Scope) + ":" + url.QueryEscape(o.Sender) + ":" + url.QueryEscape(o.Topic)
}

// AddOptOut records an objection in one atomic write; the first of its scope, sender and topic stays.
func (s *Store) AddOptOut(ctx context.Context, person, address string, o policy.OptOut) (bool, error) {
	o, err := canonical(person, o)
	if err != nil {
		return false, err
	}
	b, err := json.Marshal(o)
	if err != nil {
		return false, err
	}
	if address != "" {
		address = normalised(address)
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	index := redis.NewIntCmd(ctx, "zadd", objectors, 0, person)
	added := script(ctx, addScript, personKey(person), optOutField(o), b, address, o.Ref)
	twice, err := s.repeat(ctx, index, added)
	if err != nil {
		return false, err
	}
	n, err := added.Int()
	return n == 1 || n == 2 && twice, err
}

// RemoveOptOut removes the opt-out of o's scope, sender and topic, under o.Ref's conditions.
func (s *Store) RemoveOptOut(ctx context.Context, person string, o policy.OptOut) (bool, error) {
	o, err := canonical(person, o)
	if err != nil {
		return false, err
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	for range 50 {
		stored := redis.NewStringCmd(ctx, "hget", personKey(person), optOutField(o))
		if err := s.read(ctx, stored); err != nil || errors.Is(stored.Err(), redis.Nil) {
			return false, err
		}
		var stands policy.OptOut
		if err := json.Unmarshal([]byte(stored.Val()), &stands); err != nil {
			return false, fmt.Errorf("opt-out of %s: %w", person, err)
		}
		if !o.Lifts(stands) {
			return false, nil
		}
		removed := script(ctx, removeScript, personKey(person), optOutField(o), stored.Val())
		if err := s.write(ctx, removed); err != nil {
			return false, err
		}
		if ok, err := removed.Bool(); ok || err != nil {
			return ok, err
		}
	}
	return false, errors.New("the opt-out kept changing while it was removed: try again")
}

// OptOuts reads by person, a page at a time.
func (s *Store) OptOuts(ctx context.Context, yield func(person, address string, o policy.OptOut) bool) error {
	from := "-"
	for {
		persons, facts, err := s.objectorsFrom(ctx, from)
		if err != nil {
			return err
		}
		for _, person := range persons {
			for _, o := range facts[person].OptOuts {
				if !yield(person, facts[person].Contact.Address, o) {
					return nil
				}
			}
		}
		if len(persons) < page {
			return nil
		}
		from = "(" + persons[len(persons)-1]
	}
}

func (s *Store) objectorsFrom(ctx context.Context, from string) ([]string, map[string]policy.Facts, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	persons := redis.NewStringSliceCmd(ctx, "zrangebylex", objectors, from, "+", "limit", 0, page)
	if err := s.read(ctx, persons); err != nil {
		return nil, nil, err
	}
	facts, err := s.Facts(ctx, persons.Val())
	return persons.Val(), facts, err
}
