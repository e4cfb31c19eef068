package smtp

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
)

var (
	badSequence  = Reply{503, [3]int{5, 5, 1}, "bad sequence of commands"}      // RFC 5321 section 4.3.2
	badSyntax    = Reply{501, [3]int{5, 5, 4}, "syntax error in parameters"}    // RFC 5321 section 4.2.3
	badCommand   = Reply{500, [3]int{5, 5, 2}, "command is not printable"}      // RFC 5321 section 4.1.2
	tooMuchNoise = Reply{421, [3]int{4, 7, 0}, "too many commands, no message"} // RFC 5321 section 3.8
)

// command checks one line. It answers it, or returns what go-smtp shall see of it.
func (d *dialog) command(line string) (forward string) {
	line = strings.TrimRight(line, " \t")
	verb, arg, _ := strings.Cut(line, " ")
	verb = strings.ToUpper(verb)
	if d.idling++; d.idling > maxIdleSteps || d.idling > maxStranger && d.account == "" {
		d.reply(tooMuchNoise)
		return ""
	}
	if !isCommandText(line, verb == "MAIL" || verb == "RCPT") {
		d.reply(badCommand)
		return ""
	}
	switch verb {
	case "EHLO", "HELO":
		return d.hello(verb, arg)
	case "STARTTLS":
		return d.startTLS(arg)
	case "AUTH":
		return d.authCommand(line, arg)
	case "MAIL":
		return d.mail(arg)
	case "RCPT":
		return d.rcpt(arg)
	case "DATA":
		return d.data(arg)
	case "BDAT":
		return d.bdat(arg)
	case "RSET", "QUIT":
		if arg != "" {
			d.reply(badSyntax.With("%s takes no parameters", verb))
			return ""
		}
	case "NOOP", "VRFY", "EXPN", "HELP":
	default: // not left to go-smtp: it takes STARTTLSfoo for STARTTLS
		d.idling += unknownCost
		d.reply(Reply{500, [3]int{5, 5, 1}, "command not recognized"})
		return ""
	}
	return line
}

// isCommandText is ASCII without controls; in paths also what is not ASCII, which parsePath judges.
func isCommandText(s string, path bool) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f || c >= 0x80 && !path })
}

// hello answers EHLO in our own words: the client's name is neither believed nor repeated.
func (d *dialog) hello(verb, name string) string {
	name, _, _ = strings.Cut(strings.TrimLeft(name, " "), " ")
	if name == "" || len(name) > 255 {
		d.reply(badSyntax.With("%s needs the client's name", verb))
		return ""
	}
	d.helo = name
	lines := []string{d.server.Hostname}
	if verb == "EHLO" {
		lines = append(lines, d.keywords()...)
	}
	d.put(appendLines(nil, 250, lines))
	d.mute = true
	return verb + " " + name
}

func (d *dialog) keywords() []string {
	words := []string{
		"PIPELINING", "SIZE " + strconv.FormatInt(d.limits.Message, 10), "8BITMIME", "SMTPUTF8",
		"ENHANCEDSTATUSCODES", "CHUNKING", "DSN", "LIMITS RCPTMAX=" + strconv.Itoa(d.limits.Recipients),
	}
	if d.server.TLS != nil && !d.tls && !d.auth {
		words = append(words, "STARTTLS")
	}
	if d.authOffered() && d.authAllowed() {
		words = append(words, "AUTH PLAIN LOGIN")
	}
	return words
}

// passing is the upstream that this client logs in at, nil where the login is decided here.
func (d *dialog) passing() *PassUpstream {
	if d.server.Pass == nil || d.account == "" {
		return nil
	}
	return d.server.Pass(d.account)
}

func (d *dialog) authOffered() bool { return d.server.Login != nil || d.passing() != nil }

// authAllowed: a password crosses no network in plain text (RFC 4954 section 4).
func (d *dialog) authAllowed() bool { return d.tls || d.peer.IsLoopback() }

// startTLS (RFC 3207). What came before the handshake is forgotten, and plain text behind the command is an attack.
func (d *dialog) startTLS(arg string) string {
	switch {
	case arg != "":
		d.reply(badSyntax.With("STARTTLS takes no parameters"))
	case d.tls || d.auth || d.tx.open:
		d.reply(badSequence)
	case d.server.TLS == nil:
		d.reply(Reply{502, [3]int{5, 5, 1}, "TLS is not offered"})
	case len(d.buffered()) > 0:
		d.hangUp(badSequence.With("plain text after STARTTLS, closing the connection"))
	default:
		d.reply(Reply{220, [3]int{2, 0, 0}, "ready to start TLS"})
		if d.flush() != nil {
			return ""
		}
		if err := d.handshake(d.server.base, d.server.TLS); err != nil {
			d.log.Info("TLS handshake failed", "peer", d.peer, "error", err)
			return ""
		}
		d.tls, d.helo = true, ""
		return "RSET"
	}
	return ""
}

func (d *dialog) authCommand(line, arg string) string {
	_, initial, has := strings.Cut(strings.TrimLeft(arg, " "), " ")
	switch initial = strings.TrimLeft(initial, " "); {
	case !d.authOffered():
		d.reply(Reply{502, [3]int{5, 5, 1}, "AUTH is not offered"})
	case d.helo == "" || d.auth || d.tx.open:
		d.reply(badSequence)
	case !d.authAllowed():
		d.reply(EncryptionFirst)
	case arg == "":
		d.reply(badSyntax.With("AUTH needs a mechanism"))
	case has && initial != "=" && !isBase64(initial):
		d.reply(Reply{501, [3]int{5, 5, 2}, "malformed base64"})
	default:
		return line
	}
	return ""
}

func (d *dialog) mail(arg string) string {
	switch {
	case d.helo == "":
		d.reply(badSequence.With("say EHLO first"))
		return ""
	case d.tx.open:
		d.reply(badSequence.With("a transaction is open already"))
		return ""
	case d.login != nil && d.login.Upstream() != d.passing(): // since a reload
		d.reply(LoginGone)
		return ""
	case !d.server.share(d):
		d.reply(TooManyConns.With("too many connections of this account, others need them"))
		return ""
	}
	path, params, ok := cutPath(arg, "FROM:")
	if !ok {
		d.reply(badSyntax.With("MAIL FROM:<address> is expected"))
		return ""
	}
	address, rest, err := parsePath(path, "", hasParam(params, "SMTPUTF8"))
	if err != nil {
		d.reply(addressRefusal(err, [3]int{5, 1, 7}))
		return ""
	}
	rest, size, refusal := d.mailParams(rest)
	if refusal.Code != 0 {
		d.reply(refusal)
		return ""
	}
	d.path, d.size = address, size
	return "MAIL FROM:<" + address + ">" + rest
}

// cutPath takes the keyword off; params is what may hold parameters, for the one that decides how to read the path.
func cutPath(arg, keyword string) (path, params string, ok bool) {
	arg = strings.TrimLeft(arg, " ")
	if len(arg) < len(keyword) || !strings.EqualFold(arg[:len(keyword)], keyword) {
		return "", "", false
	}
	path = strings.TrimLeft(arg[len(keyword):], " ")
	return path, path[strings.LastIndexByte(path, '>')+1:], true
}

func hasParam(params, name string) bool {
	for p := range strings.FieldsSeq(params) {
		if strings.EqualFold(p, name) {
			return true
		}
	}
	return false
}

// mailParams takes SIZE out: go-smtp reads 32 bits of it and calls more a syntax error.
func (d *dialog) mailParams(params string) (rest string, size int64, refusal Reply) {
	if refusal = checkParams(params); refusal.Code != 0 {
		return "", 0, refusal
	}
	for p := range strings.FieldsSeq(params) {
		key, value, _ := strings.Cut(strings.ToUpper(p), "=")
		if key != "SIZE" {
			rest += " " + p
			continue
		}
		if value == "" || len(value) > 20 || strings.Trim(value, "0123456789") != "" { // RFC 1870 section 4
			return "", 0, badSyntax.With("malformed SIZE")
		}
		var err error
		if size, err = strconv.ParseInt(value, 10, 64); err != nil || size > d.limits.Message {
			return "", 0, d.tooBig()
		}
	}
	return rest, size, Reply{}
}

// checkParams refuses a parameter given twice, of which go-smtp would take the last, and a value for SMTPUTF8.
func checkParams(params string) Reply {
	seen := make(map[string]bool)
	for p := range strings.FieldsSeq(params) {
		key, _, valued := strings.Cut(strings.ToUpper(p), "=")
		if seen[key] || valued && key == "SMTPUTF8" {
			return badSyntax
		}
		seen[key] = true
	}
	return Reply{}
}

func (d *dialog) tooBig() Reply {
	return TooBig.With("%s, the limit is %d bytes", TooBig.Text, d.limits.Message)
}

func (d *dialog) rcpt(arg string) string {
	switch {
	case !d.tx.open || d.tx.body != nil:
		d.reply(badSequence)
		return ""
	case d.account == "", d.login == nil && d.passing() != nil:
		d.reply(NoAccount)
		return ""
	}
	path, _, ok := cutPath(arg, "TO:")
	if !ok {
		d.reply(badSyntax.With("RCPT TO:<address> is expected"))
		return ""
	}
	address, rest, err := parsePath(path, d.server.Hostname, d.tx.env.UTF8)
	if err == nil && address == "" {
		err = errNoPath
	}
	if err != nil {
		d.reply(addressRefusal(err, [3]int{5, 1, 3}))
		return ""
	}
	if refusal := checkParams(rest); refusal.Code != 0 {
		d.reply(refusal)
		return ""
	}
	for _, r := range d.tx.to {
		if r.Address == address {
			d.reply(Reply{250, [3]int{2, 1, 5}, "named twice, taken once"})
			return ""
		}
	}
	if len(d.tx.to) >= d.limits.Recipients {
		d.reply(TooManyRcpts)
		return ""
	}
	d.path = address
	return "RCPT TO:<" + address + ">" + rest
}

func (d *dialog) data(arg string) string {
	switch {
	case arg != "":
		d.reply(badSyntax.With("DATA takes no parameters"))
	case d.tx.body != nil:
		d.reply(badSequence.With("DATA after BDAT"))
	case !d.tx.open || len(d.tx.to) == 0:
		d.reply(badSequence.With("no valid recipients"))
	default:
		return "DATA"
	}
	return ""
}

// bdat takes one chunk (RFC 3030 section 2). After a command that does not tell the size of its chunk, nothing can
// be read as a command any more. The last chunk reaches go-smtp as DATA.
func (d *dialog) bdat(arg string) string {
	size, last, ok := parseBDAT(arg)
	now := time.Now()
	switch {
	case !ok:
		d.hangUp(badSyntax.With("malformed BDAT, closing the connection"))
		return ""
	case size > 2*d.limits.Message+maxBodyLine:
		d.hangUp(d.tooBig())
		return ""
	case d.tx.body == nil && len(d.tx.to) > 0:
		d.tx.body = d.newBody(false)
	case d.tx.body != nil && d.tx.body.deadline(now).Before(now):
		d.finish(errTimedOut)
		return ""
	}
	b := d.tx.body
	if size > 0 {
		if err := d.chunk(b, size); err != nil {
			d.finish(err)
			return ""
		}
	}
	switch {
	case b == nil:
		d.reply(badSequence.With("no valid recipients"))
	case b.refusal.Code != 0:
		d.reply(b.refusal)
		return "RSET"
	case last:
		d.mute = true // its 354
		return "DATA"
	default:
		if size > 0 {
			d.idling = 0
		}
		d.reply(Reply{250, [3]int{2, 0, 0}, strconv.FormatInt(size, 10) + " octets received"})
	}
	return ""
}

func parseBDAT(arg string) (size int64, last, ok bool) {
	f := strings.Fields(arg)
	if len(f) == 0 || len(f) > 2 || len(f) == 2 && !strings.EqualFold(f[1], "LAST") || strings.Trim(f[0], "0123456789") != "" {
		return 0, false, false
	}
	size, err := strconv.ParseInt(f[0], 10, 64)
	return size, len(f) == 2, err == nil
}

// chunk reads size octets into b; nil skips them.
func (d *dialog) chunk(b *body, size int64) error {
	d.widen()
	p := pace{time.Now(), d.limits.DataTimeout}
	for done := int64(0); done < size; {
		if len(d.buffered()) == 0 {
			now := time.Now()
			deadline := p.deadline(now, done)
			if b != nil {
				deadline = b.deadline(now)
			}
			if err := d.fill(deadline, false); err != nil {
				return err
			}
		}
		piece := d.buffered()
		if int64(len(piece)) > size-done {
			piece = piece[:size-done]
		}
		if b != nil {
			if _, _, err := b.take(piece); err != nil {
				return d.lost(b, err)
			}
		}
		d.used(len(piece))
		done += int64(len(piece))
	}
	d.narrow()
	return nil
}

// receive reads the data of DATA up to its final dot.
func (d *dialog) receive(b *body) error {
	d.widen()
	for {
		n, end, err := b.take(d.buffered())
		d.used(n)
		switch {
		case err != nil:
			return d.lost(b, err)
		case end:
			d.narrow()
			return nil
		}
		if err := d.fill(b.deadline(time.Now()), false); err != nil {
			return err
		}
	}
}

// lost: a client that sends far too much is told why, and cut.
func (d *dialog) lost(b *body, err error) error {
	if errors.Is(err, errFlood) {
		d.hangUp(b.refusal)
		return io.EOF
	}
	return err
}

func (d *dialog) newBody(dots bool) *body {
	return &body{
		intake: intake{budget: d.server.budget, account: d.tx.env.Account, ctx: d.server.base, wait: d.limits.DataTimeout, hint: d.tx.env.Size, limit: d.limits.Message},
		dots:   dots,
		pace:   pace{time.Now(), d.limits.DataTimeout},
	}
}
