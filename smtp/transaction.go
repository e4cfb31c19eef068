package smtp

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
)

// rcptGroup is how many RCPTs go out before their answers are read: many more, and both sides could block writing
// (RFC 2920 section 3.1).
const rcptGroup = 50

// transaction is one message on one connection: MAIL, RCPT, DATA or BDAT, and the content.
type transaction struct {
	link   *link
	m      Message
	kept   bool        // the connection was not made for it: it may have died since
	stale  bool        // such a connection had died, or was being closed, before MAIL was answered
	parted bool        // it was being closed: the server said so
	begun  bool        // something was written
	spoken bool        // something was answered
	ended  func() bool // the attempt was ended from outside; nil: it cannot be
	beyond atomic.Bool // the final dot is being written: the message may arrive
	heard  atomic.Bool // the answer came: nothing more is to be written

	refused   string // the command that was
	unreset   bool   // RSET was refused
	optional  bool   // refused were, perhaps, parameters that can be left out
	unchunked bool   // BDAT was refused: nothing was taken, and the message is to go by DATA
}

// step is one command of the envelope.
type step struct {
	name, line string
	optional   bool // it has parameters that can be left out
}

// run returns the upstream's answer, or ours where its extensions do not allow the message. Where the server refuses
// parameters that it offers, the message goes without those that can be left out.
func (t *transaction) run() (Reply, error) {
	refusal, err := t.attempt()
	if !t.optional || t.link.broken {
		return refusal, err
	}
	if t.ended != nil && t.ended() { // as long as it was beyond, its end did not cut the connection
		return Reply{}, ErrWithdrawn
	}
	t.link.bare = true
	reply, err := t.attempt()
	t.link.bare = err == nil && reply.Positive() // else they were not what was refused: the address is
	if t.unreset && !t.stale {
		return refusal, nil
	}
	return reply, err
}

func (t *transaction) attempt() (Reply, error) {
	t.beyond.Store(false)
	t.heard.Store(false)
	t.refused, t.optional = "", false
	reply, err := t.once()
	if t.refused == "MAIL" && aboutLogin(reply) {
		return Reply{}, UnservedError{"MAIL", reply}
	}
	return reply, err
}

func (t *transaction) once() (Reply, error) {
	params, refusal, ok := t.link.parameters(t.m)
	if !ok {
		return refusal, nil
	}
	t.begun = true
	if t.inOne() {
		return t.chunk(params)
	}
	if refusal, err := t.envelope(params); err != nil || refusal.Code != 0 {
		return refusal, err
	}
	return t.content()
}

// envelope goes as far as 354. A Reply that is not zero is the first refusal; then nothing is left to be done.
func (t *transaction) envelope(p parameters) (Reply, error) {
	for _, group := range t.groups(p) {
		for _, s := range group {
			t.link.out = append(append(t.link.out, s.line...), "\r\n"...)
		}
		if err := t.link.flush(); err != nil {
			t.stale = t.kept && (group[0].name == "RSET" || group[0].name == "MAIL")
			return Reply{}, fmt.Errorf("%s: %w", group[0].name, err)
		}
		if refusal, err := t.answers(group); err != nil || refusal.Code != 0 {
			t.link.dirty, t.link.inStep = true, false
			return refusal, err
		}
	}
	t.link.dirty = false
	return Reply{}, nil
}

func (t *transaction) mail(p parameters) step {
	return step{"MAIL", "MAIL FROM:<" + t.m.From + ">" + p.mail, p.optional}
}

func (t *transaction) rcpt(p parameters, i int) step {
	return step{"RCPT", "RCPT TO:<" + t.m.To[i].Address + ">" + p.rcpt[i], p.rcpt[i] != ""}
}

// groups are the commands that are sent together. One recipient: all of them (RFC 2920). Several: DATA waits until
// all were taken, else those that were taken would get an empty message.
func (t *transaction) groups(p parameters) [][]step {
	var steps []step
	if t.link.dirty {
		steps = append(steps, step{name: "RSET", line: "RSET"})
	}
	steps = append(steps, t.mail(p))
	for i := range t.m.To {
		steps = append(steps, t.rcpt(p, i))
	}
	data := step{name: "DATA", line: "DATA"}
	if !t.link.offered("PIPELINING") || t.link.up.distrusts(&t.link.up.lockStep) {
		var groups [][]step
		for _, s := range append(steps, data) {
			groups = append(groups, []step{s})
		}
		return groups
	}
	if len(t.m.To) == 1 {
		return [][]step{append(steps, data)}
	}
	var groups [][]step
	for len(steps) > rcptGroup {
		groups, steps = append(groups, steps[:rcptGroup]), steps[rcptGroup:]
	}
	return append(groups, steps, []step{data})
}

// answers reads the answers to a group, all of them, so that the connection stays in step.
func (t *transaction) answers(group []step) (refusal Reply, err error) {
	mailTaken, open := true, false
	for i, s := range group {
		reply, err := t.link.read(s.name)
		first := s.name == "RSET" || s.name == "MAIL"
		if timeout := net.Error(nil); i > 0 && errors.As(err, &timeout) && timeout.Timeout() {
			// QUIRK: it may throw away what came behind a command. Command by command it will take the next message.
			t.link.up.distrust(&t.link.up.lockStep)
		}
		t.spoken = t.spoken || err == nil
		if err != nil || reply.Code == 421 {
			t.link.broken = true
			t.stale = first && t.kept
			t.parted = err == nil
			if refusal.Code != 0 || err != nil {
				return refusal, unlessAnswered(refusal, err)
			}
			return reply, nil
		}
		switch {
		case s.name == "RSET" && !reply.Positive():
			t.link.broken, t.stale, t.unreset = true, t.kept, true
			return Reply{}, fmt.Errorf("RSET was answered %d", reply.Code)
		case s.name == "DATA" && reply.Code/100 == 3:
			open = true
		case s.name != "DATA" && reply.Positive():
		case reply.Temporary() || reply.Permanent():
			if refusal.Code == 0 {
				refusal, t.refused, t.optional = reply, s.name, s.optional && refusesParameter(reply)
			}
			mailTaken = mailTaken && s.name != "MAIL"
		default:
			t.link.broken = true
			return refusal, unlessAnswered(refusal, fmt.Errorf("%s was answered %d", s.name, reply.Code))
		}
	}
	if open && refusal.Code != 0 {
		t.abandon(mailTaken)
	}
	return refusal, nil
}

// aboutLogin: RFC 4954 section 6, that a login is missing, too weak, wrong or unencrypted. At MAIL that is about this
// gateway, not about the message.
func aboutLogin(r Reply) bool { return slices.Contains([]int{530, 534, 535, 538}, r.Code) }

// refusesParameter: 555, and of older servers 501 and 504, are about parameters (RFC 5321 section 4.1.1.11), though not
// for certain.
func refusesParameter(r Reply) bool { return r.Code == 555 || r.Code == 501 || r.Code == 504 }

// unlessAnswered drops an error that came after the message was refused: the refusal is the answer.
func unlessAnswered(refusal Reply, err error) error {
	if refusal.Code != 0 {
		return nil
	}
	return err
}

// abandon ends a DATA that was opened although the only recipient was refused, by an empty message
// (RFC 2920 section 3.1). Where MAIL was refused the server makes no sense, and might deliver it: the connection goes.
func (t *transaction) abandon(mailTaken bool) {
	if !mailTaken {
		t.link.broken = true
		return
	}
	if reply, err := t.link.command("the empty message", "."); err != nil || reply.Code == 421 {
		t.link.broken = true
	}
}
