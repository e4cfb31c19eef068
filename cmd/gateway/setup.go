package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"

	"heed/config"
	"heed/policy"
	"heed/relay"
	"heed/rewrite"
	"heed/store"
	"heed/unsubscribe"
)

// parts are what every command that touches the state works with.
type parts struct {
	config *config.Config
	keys   *unsubscribe.Keys
	state  store.State
	relay  *relay.Relay
	log    *slog.Logger
}

// load reads the configuration; whatever is wrong with it is exit 2.
func (a *app) load() (*config.Config, error) {
	c, err := config.Load(a.file, a.env)
	if err != nil {
		return nil, configError(err)
	}
	return c, nil
}

// open loads the configuration and opens the state behind it. The relay can decide; serve gives it a way to send.
func (a *app) open(log *slog.Logger) (*parts, error) {
	c, err := a.load()
	if err != nil {
		return nil, err
	}
	return openParts(a.ctx, c, log)
}

func openParts(ctx context.Context, c *config.Config, log *slog.Logger) (*parts, error) {
	book, err := bookOf(c)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return nil, usagef("data_dir: %w", err)
	}
	state, err := store.Open(ctx, c.State, store.Options{Durability: store.Durability(c.Durability), Log: log})
	if err != nil {
		return nil, err
	}
	keys, err := keysOf(ctx, state, c.Keys, log)
	if err != nil {
		return nil, errors.Join(err, state.Close())
	}
	r := &relay.Relay{
		Hostname: c.Hostname, Key: keys.AddressKey(), Contacts: state, Journal: state,
		Links:  unsubscribe.Links{Keys: keys, PublicURL: c.PublicURL},
		Budget: c.ReplyBudget, Now: time.Now, Log: log,
	}
	if c.DuplicateGuard > 0 {
		r.Guard, r.Remember = state, c.DuplicateGuard
	}
	r.Load(book)
	return &parts{config: c, keys: keys, state: state, relay: r, log: log}, nil
}

// keysOf reads the key file that the state was made with, or makes one for a new state. Another file's person keys
// would miss every opt-out there.
func keysOf(ctx context.Context, state store.State, file string, log *slog.Logger) (*unsubscribe.Keys, error) {
	stands, err := state.Fingerprint(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	keys, err := unsubscribe.Load(file)
	if errors.Is(err, fs.ErrNotExist) {
		if stands != "" {
			return nil, usagef("keys: %s is missing, and this state was made with a key file (fingerprint %s): restore it from backup, or copy it from another node", file, stands)
		}
		var made bool
		if keys, made, err = unsubscribe.LoadOrCreate(file); made {
			log.Warn("made a new key file: back it up, without it no opt-out can be matched", "file", file)
		}
	}
	if err != nil {
		return nil, usageError{err}
	}
	if stands, err = state.Fingerprint(ctx, keys.Fingerprint()); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	if stands != keys.Fingerprint() {
		return nil, usagef("keys: %s is not the key file this state was made with (fingerprint %s, the state has %s): restore the right one from backup", file, keys.Fingerprint(), stands)
	}
	return keys, nil
}

// bookOf turns the configuration into what the relay decides by.
func bookOf(c *config.Config) (*relay.Book, error) {
	rules, err := policy.Guide(policy.Options{
		BlockUnlisted:    c.Policy.UnlistedCountry == "block",
		FreemailBusiness: c.Policy.Freemail == "business",
		SoftOptInIsBasis: c.Policy.SoftOptInIsLegalBasis,
	})
	if err != nil {
		return nil, err
	}
	notices, err := noticesOf(c)
	if err != nil {
		return nil, err
	}
	book := &relay.Book{
		Rules: rules, Notices: notices, Language: c.Policy.Language, OneClick: c.Policy.OneClickScope,
		WrapSigned: c.Policy.SignedMail == "wrap",
		Accounts:   make(map[string]*relay.Account, len(c.Accounts)),
	}
	senders := sendersOf(c)
	for _, a := range c.Accounts {
		signer, err := signerOf(c, a)
		if err != nil {
			return nil, err
		}
		book.Accounts[a.Name] = &relay.Account{
			Account: policy.Account{
				Name: a.Name, Sender: senders[a.Sender], Category: policy.Category(a.Category), Topic: a.Topic, Product: a.Product,
				Assessment: assessmentOf(c, a.Assessment), Observe: a.Enforcement == "observe",
			},
			TextSwitch: textSwitch(c, a.Upstream), Signer: signer,
			Upstreams: a.Upstream, RejectPartial: a.OnPartial == "reject", Pass: a.Auth == "pass",
		}
	}
	return book, nil
}

// signerOf has the keys of an account's sender, and leaves out what any of its upstreams replaces; nil: no keys.
func signerOf(c *config.Config, a config.Account) (*rewrite.Signer, error) {
	var keys []rewrite.DKIMKey
	for _, s := range c.Senders {
		if s.ID != a.Sender {
			continue
		}
		for _, d := range s.DKIM {
			private, err := d.Private()
			if err != nil {
				return nil, usagef("dkim key %s of %s: %w", d.Selector, d.Domain, err)
			}
			keys = append(keys, rewrite.DKIMKey{Domain: d.Domain, Selector: d.Selector, Private: private})
		}
	}
	if keys == nil {
		return nil, nil
	}
	var replaced []string
	for _, u := range c.Upstreams {
		if slices.Contains(a.Upstream, u.Name) {
			replaced = append(replaced, u.Rewrites...)
		}
	}
	return rewrite.NewSigner(keys, replaced)
}

// textSwitch keeps the click tracker of any of the upstreams off the links in plain text.
func textSwitch(c *config.Config, upstreams []string) string {
	for _, u := range c.Upstreams {
		host, _, _ := net.SplitHostPort(u.URL.Address)
		if s := rewrite.TextSwitch(host); s != "" && slices.Contains(upstreams, u.Name) {
			return s
		}
	}
	return ""
}

// noticesOf are the built-in texts and the operator's own.
func noticesOf(c *config.Config) (*rewrite.Notices, error) {
	notices, err := rewrite.LoadNotices()
	if err != nil || c.Policy.Notices == "" {
		return notices, err
	}
	notices, err = notices.Override(os.DirFS(c.Policy.Notices), c.Policy.Notices)
	var wrong rewrite.TextMistakes
	if !errors.As(err, &wrong) {
		return notices, err
	}
	all := &config.Errors{}
	for _, m := range wrong {
		all.Mistakes = append(all.Mistakes, config.Mistake{File: m.File, Line: m.Line, Key: m.Key, Text: m.Text, Remedy: m.Remedy})
	}
	return nil, all
}

func sendersOf(c *config.Config) map[string]*policy.Sender {
	found := make(map[string]*policy.Sender, len(c.Senders))
	for _, s := range c.Senders {
		found[s.ID] = &policy.Sender{
			ID: s.ID, Name: s.Name, PostalAddress: s.PostalAddress, Country: s.Country, Contact: s.Contact, Phone: s.Phone,
			Website: s.Website, Register: s.Register, PrivacyURL: s.PrivacyURL, Retention: s.Retention, Authority: s.Authority,
			Domains: s.Domains, Families: s.Families,
		}
	}
	return found
}

func assessmentOf(c *config.Config, id string) *policy.Assessment {
	for _, a := range c.Assessments {
		if a.ID == id && id != "" {
			return &policy.Assessment{
				ID: a.ID, Sender: a.Sender, Interest: a.Interest, Purpose: policy.Test(a.Purpose), Necessity: policy.Test(a.Necessity),
				Balancing: policy.Test{Passed: a.Balancing.Passed, Finding: a.Balancing.Finding}, Risks: a.Balancing.Risks,
				Countries: a.Covers.Countries, Topics: a.Covers.Topics, AssessedBy: a.AssessedBy,
				AssessedOn: a.AssessedOn, ExpiresOn: a.ExpiresOn,
			}
		}
	}
	return nil
}

// senderIDs are the configured senders, in order.
func (p *parts) senderIDs() []string {
	var ids []string
	for _, s := range p.config.Senders {
		ids = append(ids, s.ID)
	}
	return ids
}

// person is the key of an address given on the command line.
func (p *parts) person(address string) (key, normalised string, err error) {
	normalised, err = policy.Normalise(address)
	if err != nil {
		return "", "", usageError{err}
	}
	return p.keys.AddressKey().Person(normalised), normalised, nil
}

// openFor opens the parts for a command about one address.
func (a *app) openFor(email string) (p *parts, person, address string, err error) {
	if p, err = a.open(a.quiet()); err != nil {
		return nil, "", "", err
	}
	if person, address, err = p.person(email); err != nil {
		p.close()
		return nil, "", "", err
	}
	return p, person, address, nil
}

func (p *parts) close() {
	if err := p.state.Close(); err != nil {
		p.log.Error("state not closed", "error", err)
	}
}

// quiet is the log of commands that run and end: warnings only.
func (a *app) quiet() *slog.Logger {
	return slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
