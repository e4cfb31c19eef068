package smtp

import (
	"bytes"
	"context"
	"strings"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/emersion/go-sasl"
)

const (
	maxTries = 3 // failed logins of a connection
	loginMax = time.Minute
)

// AuthMechanisms is not used: the dialog answers EHLO.
func (s *session) AuthMechanisms() []string { return nil }

// Auth starts a login.
func (s *session) Auth(mechanism string) (sasl.Server, error) {
	d := s.d
	switch strings.ToUpper(mechanism) {
	case "PLAIN", "LOGIN":
	default:
		d.reply(Reply{504, [3]int{5, 5, 4}, "AUTH PLAIN and LOGIN are offered"}) // RFC 4954 section 4
		return nil, gosmtp.ErrAuthUnknownMechanism
	}
	if d.server.throttle.blocked(d.peer, time.Now()) {
		d.reply(TooManyTries)
		return nil, errAnswered
	}
	if strings.EqualFold(mechanism, "PLAIN") {
		return &plainLogin{d}, nil
	}
	return &loginLogin{d: d}, nil
}

// plainLogin is PLAIN (RFC 4616).
type plainLogin struct{ d *dialog }

func (p *plainLogin) Next(response []byte) (challenge []byte, done bool, err error) {
	if response == nil {
		return nil, false, nil
	}
	part := bytes.Split(response, []byte{0})
	if len(part) != 3 {
		p.d.reply(Reply{501, [3]int{5, 5, 2}, "malformed PLAIN response"})
		return nil, false, errAnswered
	}
	identity, user := string(part[0]), string(part[1])
	if identity != "" && identity != user {
		return nil, true, p.d.failed(BadCredentials)
	}
	return nil, true, p.d.logIn(user, string(part[2]))
}

// loginLogin is LOGIN (draft-murchison-sasl-login), which Outlook and many mail tools use.
type loginLogin struct {
	d     *dialog
	asked bool
	user  string
	named bool
}

func (l *loginLogin) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case response == nil && !l.asked:
		l.asked = true
		return []byte("Username:"), false, nil
	case !l.named:
		l.user, l.named = string(response), true
		return []byte("Password:"), false, nil
	}
	return nil, true, l.d.logIn(l.user, string(response))
}

// logIn decides a login, or has it decided at the upstream, and answers it.
func (d *dialog) logIn(user, password string) error {
	if p := d.passing(); p != nil {
		return d.logInAt(p, user, password)
	}
	ctx, cancel := context.WithTimeout(d.server.base, loginMax)
	defer cancel()
	var account string
	var ok bool
	answer := d.recovered(ctx, func(ctx context.Context) Reply {
		var err error
		if account, ok, err = d.server.Login(ctx, user, password); err != nil {
			d.log.Error("login could not be decided", "error", err)
			return NoLogin
		}
		return Reply{235, [3]int{2, 7, 0}, "authentication succeeded"}
	})
	switch {
	case !answer.Positive():
		d.reply(answer)
		return errAnswered
	case !ok || account == "":
		return d.failed(BadCredentials)
	}
	d.account = account
	return d.succeeded(answer)
}

// logInAt tries a login at the upstream and hands its answer back. Only what it refused for good counts as a try.
func (d *dialog) logInAt(p *PassUpstream, user, password string) error {
	ctx, cancel := context.WithTimeout(d.server.base, loginMax)
	defer cancel()
	answer := d.recovered(ctx, func(ctx context.Context) Reply {
		login, reply, err := p.LogIn(ctx, user, password)
		if err != nil {
			d.log.Warn("no answer to a login", "error", err)
		}
		d.login = login
		return reply
	})
	switch {
	case answer.Permanent():
		return d.failed(answer)
	case !answer.Positive():
		d.reply(answer)
		return errAnswered
	}
	return d.succeeded(answer)
}

func (d *dialog) succeeded(answer Reply) error {
	d.auth, d.tries, d.idling = true, 0, 0
	if d.server.OnLogin != nil {
		d.server.OnLogin(true)
	}
	d.reply(answer)
	return nil
}

func (d *dialog) failed(answer Reply) error {
	d.tries++
	d.server.throttle.failed(d.peer, time.Now())
	if d.server.OnLogin != nil {
		d.server.OnLogin(false)
	}
	d.log.Info("login failed", "peer", d.peer, "tries", d.tries)
	if d.tries >= maxTries {
		d.reply(TooManyTries)
	} else {
		d.reply(answer)
	}
	return errAnswered
}
