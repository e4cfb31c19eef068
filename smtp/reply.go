// Package smtp is the wire, both sides: the server that mail tools submit to, and the client that hands mail
// to an upstream. go-smtp appears here and nowhere else.
package smtp

import (
	"fmt"
	"strings"
)

// Reply is one SMTP answer (RFC 5321 section 4.2), in either direction. Text may have several lines, separated
// by "\n", without the codes; Enhanced is the status code of RFC 3463, zero where the peer sent none.
type Reply struct {
	Code     int
	Enhanced [3]int
	Text     string
}

// Positive tells that the peer did what it was asked (2yz).
func (r Reply) Positive() bool { return r.Code/100 == 2 }

// Temporary tells that the peer may succeed later (4yz).
func (r Reply) Temporary() bool { return r.Code/100 == 4 }

// Permanent tells that the peer will not do it (5yz).
func (r Reply) Permanent() bool { return r.Code/100 == 5 }

// final tells an answer from garbage: 2yz, 4yz or 5yz.
func (r Reply) final() bool { return r.Positive() || r.Temporary() || r.Permanent() }

// Named replies; their texts are completed with Reply.With.
var (
	OK              = Reply{250, [3]int{2, 0, 0}, "ok"}
	BadLineEnding   = Reply{550, [3]int{5, 5, 2}, "bare CR or LF in message"}                                   // RFC 5321 section 2.3.8
	NoAccount       = Reply{530, [3]int{5, 7, 0}, "authentication required"}                                    // RFC 4954 section 6
	BadCredentials  = Reply{535, [3]int{5, 7, 8}, "authentication failed"}                                      // RFC 4954 section 6
	NoLogin         = Reply{454, [3]int{4, 7, 0}, "temporary authentication failure"}                           // RFC 4954 section 6
	LoginGone       = Reply{421, [3]int{4, 7, 0}, "the login does not hold any more: connect and log in again"} // RFC 5321 section 3.8
	TooManyTries    = Reply{421, [3]int{4, 7, 0}, "too many failed logins"}                                     // RFC 4954 section 4
	EncryptionFirst = Reply{538, [3]int{5, 7, 11}, "encryption required for AUTH"}                              // RFC 4954 section 6
	BadAddress      = Reply{553, [3]int{5, 1, 3}, "malformed recipient address"}                                // RFC 3463 section 3.2
	TooBig          = Reply{552, [3]int{5, 3, 4}, "message is too big"}                                         // RFC 1870 section 6
	TooManyRcpts    = Reply{452, [3]int{4, 5, 3}, "too many recipients"}                                        // RFC 5321 section 4.5.3.1.10
	TooManyConns    = Reply{421, [3]int{4, 3, 2}, "too many connections"}                                       // RFC 3463 section 3.4
	NoAnswer        = Reply{451, [3]int{4, 4, 1}, "no answer from the upstream"}                                // RFC 3463 section 3.5
	AnswerLost      = Reply{451, [3]int{4, 4, 2}, "the upstream's answer was lost: the message may have been delivered"}
	NoTurn          = Reply{451, [3]int{4, 4, 5}, "no turn at the upstream in time"}      // RFC 3463 section 3.5
	OurFault        = Reply{451, [3]int{4, 3, 0}, "temporary failure in the gateway"}     // RFC 3463 section 3.4
	SpoolFull       = Reply{452, [3]int{4, 3, 1}, "the spool is full"}                    // RFC 3463 section 3.4
	MailLoop        = Reply{554, [3]int{5, 4, 6}, "too many Received fields, mail loops"} // RFC 5321 section 6.3
	NoSMTPUTF8      = Reply{550, [3]int{5, 6, 7}, "the upstream does not offer SMTPUTF8"} // RFC 6531 section 3.5
	No8BitMIME      = Reply{550, [3]int{5, 6, 3}, "the upstream does not offer 8BITMIME"} // RFC 6152 section 3
	Unrewritable    = Reply{550, [3]int{5, 6, 0}, "[content.unrewritable]"}               // RFC 3463 section 3.7
	Refused         = Reply{550, [3]int{5, 7, 1}, "blocked"}                              // RFC 3463 section 3.8
)

// With is the same reply with another text.
func (r Reply) With(format string, args ...any) Reply {
	r.Text = fmt.Sprintf(format, args...)
	return r
}

// String is the reply on one line, as it is journaled: "550 5.7.1 text; second line".
func (r Reply) String() string {
	s := fmt.Sprintf("%d ", r.Code)
	if r.Enhanced != [3]int{} {
		s += fmt.Sprintf("%d.%d.%d ", r.Enhanced[0], r.Enhanced[1], r.Enhanced[2])
	}
	return strings.TrimRight(s+strings.ReplaceAll(r.Text, "\n", "; "), " ")
}

// Without is String with the address left out: the journal names persons by key alone.
func (r Reply) Without(address string) string { return r.Hiding(address).String() }

// Hiding is the reply with the addresses left out of its text.
func (r Reply) Hiding(addresses ...string) Reply {
	for _, address := range addresses {
		for address != "" {
			lower := strings.ToLower(r.Text)
			i := strings.Index(lower, strings.ToLower(address))
			if i < 0 || len(lower) != len(r.Text) {
				break
			}
			r.Text = r.Text[:i] + "..." + r.Text[i+len(address):]
		}
	}
	return r
}
