package rewrite

import (
	"slices"
	"strings"
	"testing"
)

// The account of a copy says what was changed and where.
func TestAccount(t *testing.T) {
	raw := plain + "List-Unsubscribe: <https://t.example/u/1>\r\nBcc: b@c.example\r\nDKIM-Signature: v=1\r\nContent-Type: multipart/mixed; boundary=m\r\n\r\n" +
		"--m\r\nContent-Type: multipart/alternative; boundary=a\r\n\r\n" +
		"--a\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\n\xfc https://t.example/u/1\r\n" +
		"--a\r\nContent-Type: text/html\r\n\r\n<body><a href=\"{{heed.unsubscribe_url}}\">x</a>{{heed.notice}}{{heed.notice}}</body>\r\n--a--\r\n" +
		"--m\r\nContent-Type: image/gif\r\n\r\nx\r\n--m--\r\n"
	m, err := Read([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	tr := placed(t)
	tr.Notice.Text = "Αθήνα"
	out, changes, err := m.Copy(tr)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"header fields added: Received, List-Unsubscribe, List-Unsubscribe-Post, List-Id",
		"header fields removed: List-Unsubscribe, Bcc, DKIM-Signature",
		"part 1.1 (text/plain): now utf-8 quoted-printable",
		"part 1.1 (text/plain): link at octet 2 of its text, 28 octets for 21",
		"part 1.1 (text/plain): notice at octet 23 of its text, 14 octets for 0",
		"part 1.2 (text/html): tracking at octet 8 of its text, 82 octets for 0",
		"part 1.2 (text/html): link at octet 15 of its text, 28 octets for 24",
		"part 1.2 (text/html): notice at octet 46 of its text, 43 octets for 15",
		"part 1.2 (text/html): placeholder at octet 61 of its text, 0 octets for 15",
	}
	if got := changes.Lines(); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s\nin\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"), out)
	}
	if strings.Contains(strings.Join(changes.Lines(), " "), "b@c.example") {
		t.Error("the account quotes the message")
	}
}

// A field's name may hold an address: it is not told.
func TestAccountNamesNobody(t *testing.T) {
	m, err := Read([]byte(plain + "Heed-anna@firma.example: x\r\nresent-Anna@firma.example: y\r\nBCC: a@b.example\r\nbcc: b@b.example\r\n\r\nx\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, changes, err := m.Copy(placed(t))
	if want := []string{"heed-*", "resent-*", "Bcc"}; err != nil || !slices.Equal(changes.Removed, want) {
		t.Errorf("got %q, %v, want %q", changes.Removed, err, want)
	}
}

// No click tracker sits before the link of a notice.
func TestNoticeHasSwitches(t *testing.T) {
	in := input("unsubscribe")
	in.TextSwitch = TextSwitch("smtp.sparkpostmail.com")
	n, err := notices(t).Compose(in)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(n.Text, in.UnsubscribeURL+in.TextSwitch+"\n") {
		t.Errorf("text: %s", n.Text)
	}
	at, href := strings.Index(n.HTML, "<a"+linkSwitches), strings.Index(n.HTML, `href="`+in.UnsubscribeURL)
	if at < 0 || href < at || strings.Contains(n.HTML, "msys-clicktrack=\"0\"]]") {
		t.Errorf("HTML: %s", n.HTML)
	}
}

func TestTextSwitch(t *testing.T) {
	for host, want := range map[string]string{
		"smtp.sparkpostmail.com": `[[data-msys-clicktrack="0"]]`, "SMTP.EU.SparkPostMail.com.": `[[data-msys-clicktrack="0"]]`,
		"smtp.sendgrid.net": "", "notsparkpostmail.com": "", "127.0.0.1": "",
	} {
		if got := TextSwitch(host); got != want {
			t.Errorf("%s: got %q, want %q", host, got, want)
		}
	}
	tr := placed(t)
	tr.TextSwitch = TextSwitch("smtp.sparkpostmail.com")
	out, err := rewriteOnce([]byte(plain+"\r\nLeave: {{heed.unsubscribe_url}}\r\n"), tr)
	if err != nil || !strings.Contains(string(out), "Leave: "+link+`[[data-msys-clicktrack="0"]]`+"\r\n") {
		t.Errorf("got %v, %s", err, out)
	}
}
