// Package config reads gateway.yaml into a typed Config. Every mistake is reported at once, with its file, line, key,
// value and remedy. The fields' tags are the schema, and docs/configuration.md and the starter file are made from them:
//
//	yaml     the key                                     doc    what it means
//	default  the value of a key left out                 one    the words it may be, separated by |
//	built    the only value accepted as yet ("not        is     what kind of value it is: see kinds in scalar.go;
//	         supported yet" otherwise)                          also required, secret, file, lines,
//	                                                    positive, off (a time that may be off)
package config

import (
	"net/netip"
	"time"
)

// Config is what gateway.yaml says, complete: defaults are filled in, references resolve.
type Config struct {
	Hostname           string        `yaml:"hostname" is:"domain" doc:"Name of this gateway in EHLO, Received: and bounces. Left out: the machine's name."`
	DataDir            string        `yaml:"data_dir" default:"./data" is:"required" doc:"Folder of the embedded state and the keys."`
	Keys               string        `yaml:"keys" is:"keyfile" doc:"The key file, as file:PATH: the same on every node, made at first start. Left out: keys.json in data_dir. Back it up: without it opt-outs cannot be matched."`
	PublicURL          string        `yaml:"public_url" is:"required url" doc:"Where recipients reach listen.http: base of the opt-out links. https except on loopback."`
	UnsubscribeMailbox string        `yaml:"unsubscribe_mailbox" built:"" is:"email" doc:"Address of the mailto: half of List-Unsubscribe."`
	State              string        `yaml:"state" is:"state file" doc:"Where the state is kept: sqlite:PATH, redis://[USER:PASSWORD@]HOST:PORT/DB, redis+sentinel://[USER:PASSWORD@]H1:PORT,H2:PORT,H3:PORT/NAME (the sentinels, and what they call the primary) or redis+cluster://[USER:PASSWORD@]H1:PORT,H2:PORT; rediss, rediss+sentinel and rediss+cluster for TLS. Left out: sqlite, state.db in data_dir."`
	Durability         string        `yaml:"durability" default:"strict" one:"strict|assumed|none" doc:"strict: what is acknowledged is on disk, verified at start; assumed: the operator vouches, nothing is verified; none."`
	Listen             Listen        `yaml:"listen" doc:"Addresses to listen on, as HOST:PORT; :PORT is every interface."`
	TLS                TLS           `yaml:"tls" doc:"Certificate of the SMTP listeners; with it, smtp offers STARTTLS."`
	Limits             Limits        `yaml:"limits" doc:"What a mail tool may use up."`
	Upstreams          []Upstream    `yaml:"upstreams" is:"required" doc:"SMTP servers that mail is handed to (your ESP)."`
	ReplyBudget        time.Duration `yaml:"reply_budget" default:"30s" is:"positive" doc:"How long a mail tool waits for the upstream's answer before its message is spooled."`
	DuplicateGuard     time.Duration `yaml:"duplicate_guard" default:"24h" is:"positive off" doc:"How long a message that is submitted again, with the same Message-ID and body, hears what the first did instead of being sent twice; off: it is sent."`
	Spool              Spool         `yaml:"spool" doc:"Where mail waits when the upstream gave no final answer."`
	Bounces            Bounces       `yaml:"bounces" doc:"Reports of recipients that failed after the message was accepted."`
	Senders            []Sender      `yaml:"senders" is:"required" doc:"Legal entities that market: the controllers under the GDPR."`
	Assessments        []Assessment  `yaml:"assessments" doc:"Legitimate-interest assessments (GDPR Art. 6(1)(f)); all three tests must pass."`
	Accounts           []Account     `yaml:"accounts" is:"required" doc:"What mail tools log in as."`
	Policy             Policy        `yaml:"policy" doc:"How the rules are applied."`
	Feedback           Feedback      `yaml:"feedback" doc:"Verification keys of the ESPs' event webhooks."`
	Webhook            Webhook       `yaml:"webhook" doc:"Your own endpoint for opt-outs, resubscriptions and blocks."`
	Retention          Retention     `yaml:"retention" doc:"How long records are kept. Opt-outs are kept for ever."`
	Admin              Admin         `yaml:"admin" doc:"Access to listen.admin."`
}

// Listen is where the gateway listens, as host:port; an empty host is every interface.
type Listen struct {
	SMTP          []string       `yaml:"smtp" default:"127.0.0.1:2525" is:"address" doc:"Mail submission; STARTTLS when tls is set."`
	SMTPS         []string       `yaml:"smtps" default:"" is:"address" doc:"Mail submission over implicit TLS; needs tls."`
	HTTP          string         `yaml:"http" default:"127.0.0.1:8025" is:"required address" doc:"Public: opt-out pages. Put your https proxy in front."`
	Admin         string         `yaml:"admin" default:"127.0.0.1:8026" is:"required address" doc:"API, /metrics, /healthz, /readyz."`
	ProxyProtocol []netip.Prefix `yaml:"proxy_protocol" default:"" built:"" doc:"Networks of trusted balancers that speak the PROXY protocol."`
}

// TLS is the certificate of the SMTP listeners: paths of PEM files, both or neither.
type TLS struct {
	Cert string `yaml:"cert" default:"" doc:"Path of the certificate chain (PEM)."`
	Key  string `yaml:"key" default:"" doc:"Path of its private key (PEM)."`
	ACME Later  `yaml:"acme" default:"{}" doc:"Obtain the certificate by ACME."`
}

// Limits bound what clients may use up.
type Limits struct {
	Message        Size          `yaml:"message" default:"25MiB" is:"positive" doc:"Largest message."`
	Recipients     int           `yaml:"recipients" default:"1000" is:"positive" doc:"Recipients of one message."`
	Connections    int           `yaml:"connections" default:"1000" is:"positive" doc:"Connections open at once; of the last tenth no account gets more than its part."`
	InFlight       Size          `yaml:"in_flight" default:"256MiB" is:"positive" doc:"Bytes of all messages being received at once; raised to two of the largest where it is less. No account gets more than four times what it leaves free, or than one message needs."`
	CommandTimeout time.Duration `yaml:"command_timeout" default:"60s" is:"positive" doc:"Longest wait for a command."`
	DataTimeout    time.Duration `yaml:"data_timeout" default:"5m" is:"positive" doc:"Longest time for the content of a message."`
}

// Upstream is an SMTP server that mail is handed to.
type Upstream struct {
	Name          string        `yaml:"name" is:"required name" doc:"Name of this upstream; accounts and bounces refer to it."`
	URL           URL           `yaml:"url" is:"required" doc:"smtp:// (no TLS), smtp+starttls:// (TLS required and verified) or smtps:// (implicit TLS), then HOST:PORT; ports 25, 587 and 465 if left out."`
	Username      string        `yaml:"username" default:"" doc:"Login; off loopback only over TLS."`
	Password      Secret        `yaml:"password" default:"" is:"secret file" doc:"Its password."`
	Connections   int           `yaml:"connections" default:"20" is:"positive" doc:"Connections open at once."`
	PerConnection int           `yaml:"per_connection" default:"100" is:"natural" doc:"Messages after which a connection is closed and another one takes its place; 0 is no limit."`
	Rate          float64       `yaml:"rate" default:"0" doc:"Messages per second; 0 is no limit."`
	Timeout       time.Duration `yaml:"timeout" default:"60s" is:"positive" doc:"For connecting and for each command; the answer to the final dot gets 10m (RFC 5321 section 4.5.3.2)."`
	Rewrites      []string      `yaml:"rewrites" default:"" is:"field" doc:"Header fields this ESP replaces: left out of the DKIM signature. With several upstreams those of all of them, since a message may go to any."`
}

// Spool is where accepted messages wait.
type Spool struct {
	Enabled bool            `yaml:"enabled" default:"true" doc:"Off: a message without a final answer is refused for now (4xx)."`
	Max     Size            `yaml:"max" default:"10GiB" is:"positive" doc:"Bytes of all that waits."`
	Retry   []time.Duration `yaml:"retry" default:"1m, 5m, 15m, 1h, 4h" is:"required positive" doc:"Time before each next attempt; the last one repeats."`
	GiveUp  time.Duration   `yaml:"give_up" default:"48h" is:"positive" doc:"Age at which a message is given up and reported."`
}

// Bounces says how failures are reported. Upstream is never empty.
type Bounces struct {
	Upstream   string `yaml:"upstream" doc:"Upstream that takes bounces (null-sender mail). Left out: the first one."`
	FallbackTo string `yaml:"fallback_to" default:"" is:"email" doc:"Address that gets the report where the upstream refuses it; empty: journal only."`
}

// Sender is a legal entity that markets. Name and postal address may be empty: its marketing mail is then blocked.
type Sender struct {
	ID            string              `yaml:"id" is:"required name" doc:"Short name; with the topic at most 32 bytes, since both are sealed into each opt-out link."`
	Name          string              `yaml:"name" default:"" doc:"Legal name; without it marketing mail is blocked."`
	PostalAddress string              `yaml:"postal_address" default:"" is:"lines" doc:"Postal address; without it marketing mail is blocked."`
	Country       string              `yaml:"country" default:"" is:"country" doc:"Where it is established (ISO 3166-1, two letters)."`
	Contact       string              `yaml:"contact" default:"" doc:"Where recipients reach it about their data."`
	Phone         string              `yaml:"phone" default:"" doc:"Telephone number for the notices."`
	Website       string              `yaml:"website" default:"" is:"url" doc:"Website for the notices."`
	Register      string              `yaml:"register" default:"" is:"lines" doc:"Register, court, VAT id: shown as given."`
	PrivacyURL    string              `yaml:"privacy_url" default:"" is:"url" doc:"Privacy notice."`
	Retention     string              `yaml:"retention" default:"" is:"lines" doc:"How long data is kept, for the Art. 14 notice."`
	Authority     string              `yaml:"authority" default:"" is:"lines" doc:"Supervisory authority, for the Art. 14 notice."`
	Domains       []string            `yaml:"domains" default:"" is:"sending" doc:"From: domains it may use, subdomains included; [\"*\"] for any. Empty: none."`
	DKIM          []DKIM              `yaml:"dkim" doc:"Keys that marketing mail is signed with (docs/operations.md); empty: the ESP signs."`
	Families      map[string][]string `yaml:"product_families" doc:"Name of a family to the products in it: those are similar to each other (soft opt-in)."`
}

// Assessment is a documented legitimate-interest assessment. Dates are midnight UTC.
type Assessment struct {
	ID         string    `yaml:"id" is:"required name" doc:"Name of this assessment; accounts refer to it."`
	Sender     string    `yaml:"sender" doc:"Whose it is. May be left out where there is only one sender."`
	Interest   string    `yaml:"interest" is:"required" doc:"The interest pursued; quoted in the notices."`
	Purpose    Test      `yaml:"purpose" doc:"Is the interest legitimate?"`
	Necessity  Test      `yaml:"necessity" doc:"Is the processing necessary for it?"`
	Balancing  Balancing `yaml:"balancing" doc:"Do the recipients' interests not override it?"`
	Covers     Covers    `yaml:"covers" doc:"What it covers."`
	AssessedBy string    `yaml:"assessed_by" default:"" doc:"Who made it."`
	AssessedOn time.Time `yaml:"assessed_on" is:"required" doc:"When, as YYYY-MM-DD."`
	ExpiresOn  time.Time `yaml:"expires_on" is:"required" doc:"When it must be made anew, as YYYY-MM-DD; from then on it is no legal basis."`
}

// Test is one of the tests of an assessment.
type Test struct {
	Passed  bool   `yaml:"passed" default:"false" doc:"Whether the test was passed."`
	Finding string `yaml:"finding" default:"" is:"lines" doc:"What was found."`
}

// Balancing is the balancing test.
type Balancing struct {
	Passed  bool     `yaml:"passed" default:"false" doc:"Whether the test was passed."`
	Finding string   `yaml:"finding" default:"" is:"lines" doc:"What was found."`
	Risks   []string `yaml:"risks" default:"" is:"lines" doc:"Risks found (GDPR Recital 75)."`
}

// Covers narrows an assessment; an empty list covers all.
type Covers struct {
	Countries []string `yaml:"countries" default:"" is:"country" doc:"Recipients' countries; empty: all."`
	Topics    []string `yaml:"topics" default:"" is:"label" doc:"Topics; empty: all."`
}

// Account is what a mail tool logs in as. At least one of password, hash and networks is set, never both of the first.
type Account struct {
	Name                 string         `yaml:"name" is:"required name" doc:"Login name."`
	PasswordHash         Secret         `yaml:"password_hash" default:"" is:"secret file argon2id" doc:"Password as an argon2id hash, $argon2id$v=19$m=...; instead of password."`
	Password             Secret         `yaml:"password" default:"" is:"secret file" doc:"Password; AUTH needs TLS off loopback."`
	Networks             []netip.Prefix `yaml:"networks" default:"" doc:"Networks that may submit without AUTH, or, with auth: pass, whose clients are this account's; those of two accounts must not overlap."`
	Sender               string         `yaml:"sender" doc:"Sender it belongs to. May be left out where there is only one."`
	Category             string         `yaml:"category" default:"marketing" one:"marketing|transactional|header" doc:"header: the Heed-Category field of each message says; missing means marketing."`
	Topic                string         `yaml:"topic" default:"" is:"label" doc:"What recipients can subscribe to or leave; empty: the Heed-Topic field says."`
	Product              string         `yaml:"product" default:"" is:"label" doc:"What the mail offers; empty: the Heed-Product field says."`
	Assessment           string         `yaml:"assessment" default:"" doc:"Assessment its mail may rest on; one of its sender's."`
	Enforcement          string         `yaml:"enforcement" default:"enforce" one:"enforce|observe" doc:"observe: country.*, consent.*, softoptin.* and basis.* are only reported; all else still blocks."`
	OnPartial            string         `yaml:"on_partial" default:"split" one:"split|reject" doc:"Of blocks found at DATA. split: send the lawful copies, bounce the rest; reject: refuse all."`
	Upstream             []string       `yaml:"upstream" doc:"Upstreams its mail goes to, in order: the next is tried where one gives no answer and cannot have the message. May be left out where there is only one."`
	Auth                 string         `yaml:"auth" default:"own" one:"own|pass" doc:"own: a tool logs in with the account's name and password. pass: its login is tried at the upstream, whose answer it hears; needs networks, exactly one upstream and TLS to it off loopback; never spooled (docs/clients.md)."`
	SuspectTransactional string         `yaml:"suspect_transactional" default:"off" one:"off|warn|block" built:"off" doc:"Transactional mail that looks like marketing."`
}

// Policy is how the rules are applied.
type Policy struct {
	Packs                   []string `yaml:"packs" default:"guide" doc:"Packs of rules; a later one replaces rows of an earlier. Other than [guide] is not supported yet."`
	UnlistedCountry         string   `yaml:"unlisted_country" default:"opt-in" one:"opt-in|block" doc:"Countries in no pack."`
	Freemail                string   `yaml:"freemail" default:"consumer" one:"consumer|business" doc:"What an address at a freemail domain is taken for."`
	SoftOptInIsLegalBasis   bool     `yaml:"soft_opt_in_is_legal_basis" default:"false" doc:"A complete soft opt-in needs no further legal basis (CJEU C-654/23)."`
	OneClickScope           string   `yaml:"one_click_scope" default:"auto" one:"auto|topic|sender|all" doc:"How far a one-click opt-out reaches. auto: the topic where the mail rests on consent for it, else the sender."`
	Language                string   `yaml:"language" default:"auto" is:"required language" doc:"Of the notices. auto: the contact's, the message's, then the country's; or a fixed one of the languages there are texts in (docs/notices.md)."`
	Notices                 string   `yaml:"notices" default:"" doc:"Folder of texts of your own in place of the notices' built-in ones: de.yaml holds any of the keys for German (docs/notices.md). Empty: none."`
	SignedMail              string   `yaml:"signed_mail" default:"refuse" one:"refuse|wrap" doc:"Signed or encrypted marketing mail. wrap: it becomes, byte for byte, the first part of a multipart/mixed, and the notice the second."`
	ExistingUnsubscribe     string   `yaml:"existing_unsubscribe" default:"replace" one:"replace|keep" built:"replace" doc:"The tool's own List-Unsubscribe."`
	ForwardUnsubscribeHosts []string `yaml:"forward_unsubscribe_hosts" default:"" built:"" doc:"Hosts of the tool's own one-click URLs that opt-outs are forwarded to."`
	OptOutCheck             string   `yaml:"opt_out_check" default:"off" one:"warn|block|off" built:"off" doc:"Watches the public opt-out path."`
	DoNotMail               Later    `yaml:"do_not_mail" default:"[]" doc:"Do-not-mail lists."`
	SubjectChecks           string   `yaml:"subject_checks" default:"off" one:"off|warn|block" built:"off" doc:"False Re: and Fwd: in subjects."`
}

// Feedback holds the verification keys of ESP webhooks.
type Feedback struct {
	SendGrid Later `yaml:"sendgrid" default:"{}" doc:"SendGrid."`
	Mailgun  Later `yaml:"mailgun" default:"{}" doc:"Mailgun."`
	Postmark Later `yaml:"postmark" default:"{}" doc:"Postmark."`
	SES      Later `yaml:"ses" default:"{}" doc:"Amazon SES."`
}

// Webhook is the operator's endpoint for events.
type Webhook struct {
	URL    string `yaml:"url" default:"" built:"" is:"url" doc:"Where events are posted."`
	Secret Secret `yaml:"secret" default:"" built:"" is:"secret file" doc:"Key the events are signed with."`
}

// Retention is how long records are kept.
type Retention struct {
	Journal time.Duration `yaml:"journal" default:"26280h" is:"positive" doc:"Age at which journal entries are removed (26280h is three years)."`
}

// Admin is the access to the admin listener. Token is set unless that listens on loopback.
type Admin struct {
	Token Secret `yaml:"token" default:"" is:"secret file" doc:"Bearer token; required unless listen.admin is on loopback."`
}
