package rewrite

import (
	"bytes"
	"encoding/base64"
	"mime/quotedprintable"
	"strings"
	"testing"
)

const link = "https://opt.acme.example/u/T"

// placed is a treatment whose notice is one word, with a link of its own.
func placed(t testing.TB) Treatment {
	tr := sample(t, "en", "Acme Ltd")
	tr.Unsubscribe, tr.Notice = link, Notice{"NOTICE", "<div style=\"color:#333333\">NOTICE</div>"}
	return tr
}

// Each body as it is decoded again, with _N_ for the notice, _L_ for the link, _S_ for the switches of trackers.
func TestPlaceholders(t *testing.T) {
	for _, tt := range []struct{ name, fields, body, want string }{
		{"link in text", "", "Leave: {{heed.unsubscribe_url}}.\r\n", "Leave: _L_.\r\n\r\n_N_\r\n"},
		{"link in text, with blanks", "", "{{ heed.unsubscribe_url }}, https://heed.invalid/unsubscribe?utm=1\r\n", "_L_, _L_?utm=1\r\n\r\n_N_\r\n"},
		{"link with a scheme before it", "", "<http://{{heed.unsubscribe_url}}>\r\n", "<_L_>\r\n\r\n_N_\r\n"},
		{"notice in its own line", "", "a\r\n{{heed.notice}}\r\nb\r\n", "a\r\n_N_\r\nb\r\n"},
		{"notice in a line", "", "a {{heed.notice}} b\r\n", "a \r\n_N_\r\n b\r\n"},
		{"notice at the end", "", "a\r\n{{heed.notice}}", "a\r\n_N_\r\n"},
		{"notice twice", "", "{{heed.notice}}\r\nb {{heed.notice}}.\r\n", "_N_\r\nb .\r\n"},
		{"percent-encoded alone", "", "(%7B%7Bheed.unsubscribe_url%7D%7D)\r\n", "(_L_)\r\n\r\n_N_\r\n"},
		{"percent-encoded in a query", "", "https://t.example/?u=%7b%7Bheed.unsubscribe_url%7D%7d&x=1\r\n", "https://t.example/?u=https%3A%2F%2Fopt.acme.example%2Fu%2FT&x=1\r\n\r\n_N_\r\n"},
		{"percent-encoded twice", "", "https://t.example/?u=https%253A%252F%252Fheed.invalid%252Funsubscribe\r\n", "https://t.example/?u=https%253A%252F%252Fopt.acme.example%252Fu%252FT\r\n\r\n_N_\r\n"},
		{"flowed with DelSp", "Content-Type: text/plain; format=flowed; delsp=yes\r\n", "Go: {{heed.unsub \r\nscribe_url}} now\r\n", "Go: _L_ now\r\n\r\n_N_\r\n"},
		{"quoted-printable, split", "Content-Transfer-Encoding: quoted-printable\r\n", "Go: {{heed.uns=\r\nubscribe_url=7D=\r\n} now =3D\r\n", "Go: _L_ now =\r\n\r\n_N_\r\n"},
		{"quoted-printable, before dashes", "Content-Transfer-Encoding: quoted-printable\r\n", "{{heed.unsubscribe_url}}--b\r\n", "_L_--b\r\n\r\n_N_\r\n"},
		{"quoted-printable, two in a line", "Content-Transfer-Encoding: quoted-printable\r\n", "{{heed.unsubscribe_url}} {{heed.unsubscribe_url}}=\r\n!\r\n", "_L_ _L_!\r\n\r\n_N_\r\n"},
		{"quoted-printable, taken out", "Content-Transfer-Encoding: quoted-printable\r\n", "{{heed.notice}}=\r\nb{{heed.no=\r\ntice}}c\r\n", "_N_\r\nbc\r\n"},
		{"base64", "Content-Transfer-Encoding: base64\r\n", "64:a {{heed.unsubscribe_url}} b\r\n{{heed.notice}}\r\nc", "a _L_ b\r\n_N_\r\nc"},
		{"latin1 that becomes UTF-8", "Content-Type: text/plain; charset=iso-8859-1\r\n", "\xfc {{heed.unsubscribe_url}} \xe4\r\n", "\xfc _L_ \xe4\r\n\r\n_N_\r\n"},
		{"shift_jis, a brace as second octet", "Content-Type: text/plain; charset=shift_jis\r\n", "\x83\x7b{{heed.unsubscribe_url}}\r\n", "\x83\x7b_L_\r\n\r\n_N_\r\n"},
		{"own link in text", "List-Unsubscribe: <mailto:a@t.example>,\r\n <https://t.example/\r\n u/1?a=b&c=d>\r\n", "Leave https://t.example/u/1?a=b&c=d. Or https://t.example/u/1?a=b&c=dd\r\n", "Leave _L_. Or https://t.example/u/1?a=b&c=dd\r\n\r\n_N_\r\n"},
		{"link in HTML", "Content-Type: text/html\r\n", "<p><A class=x href=\"{{heed.unsubscribe_url}}\">x</a></p></body>\r\n", "<p><A_S_ class=x href=\"_L_\">x</a></p>\r\n_N_\r\n</body>\r\n"},
		{"link as text in HTML", "Content-Type: text/html\r\n", "<p>{{heed.unsubscribe_url}}</p></body>\r\n", "<p>_L_</p>\r\n_N_\r\n</body>\r\n"},
		{"with character references", "Content-Type: text/html\r\n", "<a href='https:&#x2F;/heed.invalid&sol;unsubscribe'>&#123;&#123;&nbsp;heed&period;unsubscribe&lowbar;url&rbrace;&#x7D;</a></body>\r\n", "<a_S_ href='_L_'>_L_</a>\r\n_N_\r\n</body>\r\n"},
		{"percent-encoded in href", "Content-Type: text/html\r\n", "<a href=\"%7B%7Bheed.unsubscribe_url%7D%7D\">x</a><a href=%7B%7Bheed.unsubscribe_url%7D%7D>y</a></body>\r\n", "<a_S_ href=\"_L_\">x</a><a_S_ href=_L_>y</a>\r\n_N_\r\n</body>\r\n"},
		{"in a conditional comment", "Content-Type: text/html\r\n", "<!--[if mso]><v:rect href=\"{{heed.unsubscribe_url}}\"></v:rect>{{heed.notice}}<![endif]--></body>\r\n", "<!--[if mso]><v:rect href=\"_L_\"></v:rect><![endif]-->\r\n_N_\r\n</body>\r\n"},
		{"notice in HTML", "Content-Type: text/html\r\n", "<td>{{heed.notice}}</td><td>{{heed.notice}}</td></body>\r\n", "<td>\r\n_N_\r\n</td><td></td></body>\r\n"},
		{"notice where it is hidden", "Content-Type: text/html\r\n", "<div style=display:none>{{heed.notice}}</div><title>{{heed.notice}}</title><p>{{heed.notice}}</p></body>\r\n", "<div style=display:none></div><title></title><p>\r\n_N_\r\n</p></body>\r\n"},
		{"own link in HTML", "Content-Type: text/html\r\nList-Unsubscribe: <https://t.example/u/1?a=b&c=d>\r\n", "<a href=\"https://t.example/u/1?a=b&amp;c=d\">x</a><a href=\"https://t.example/u/1?a=b&amp;c=d&amp;e\">y</a></body>\r\n", "<a_S_ href=\"_L_\">x</a><a href=\"https://t.example/u/1?a=b&amp;c=d&amp;e\">y</a>\r\n_N_\r\n</body>\r\n"},
		{"no-break space", "Content-Type: text/plain; charset=utf-8\r\n", "{{\u00a0heed.unsubscribe_url }}\r\n", "_L_\r\n\r\n_N_\r\n"},
		{"no-break space in Latin-1", "Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n", "{{=A0heed.unsubscribe_url}}\r\n", "_L_\r\n\r\n_N_\r\n"},
		{"taken out at the end of a line", "Content-Transfer-Encoding: quoted-printable\r\n", "{{heed.notice}}\r\nHello {{heed.notice}}\r\nx\r\n", "_N_\r\nHello\r\nx\r\n"},
		{"taken out at the end of a flowed line", "Content-Type: text/plain; format=flowed\r\n", "{{heed.notice}}\r\nHello {{heed.notice}}\r\nx\r\n", "_N_\r\nHello\r\nx\r\n"},
		{"a line grows too long by several links", "", strings.Repeat("x", 600) + strings.Repeat("{{heed.unsubscribe_url}}", 16) + "\r\n", strings.Repeat("x", 600) + strings.Repeat("_L_", 16) + "\r\n\r\n_N_\r\n"},
		{"a site is no opt-out link", "List-Unsubscribe: <https://t.example/>\r\n", "Home: https://t.example/\r\n", "Home: https://t.example/\r\n\r\n_N_\r\n"},
		{"no placeholder, but the word", "", "We take heed. Notice {this}.\r\n", "We take heed. Notice {this}.\r\n\r\n_N_\r\n"},
		{"a line grows too long", "", strings.Repeat("x", 973) + "{{heed.unsubscribe_url}}\r\n", strings.Repeat("x", 973) + "_L_\r\n\r\n_N_\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := tt.body
			if text, ok := strings.CutPrefix(body, "64:"); ok {
				body = base64.StdEncoding.EncodeToString([]byte(text)) + "\r\n"
			}
			m, err := Read([]byte(plain + tt.fields + "\r\n" + body))
			if err != nil {
				t.Fatal(err)
			}
			for i, link := range []string{link, link + "2"} { // the second is read back less thoroughly
				tr := placed(t)
				tr.Unsubscribe = link
				out, _, err := m.Copy(tr)
				if err != nil {
					t.Fatal(err)
				}
				notice := tr.Notice.Text
				if strings.Contains(tt.fields, "html") {
					notice = tr.Notice.HTML
				}
				want := strings.NewReplacer("_L_", link, "_N_", notice, "_S_", linkSwitches).Replace(tt.want)
				want = strings.ReplaceAll(want, "%2FT", "%2F"+link[len(link)-i-1:])
				want = strings.ReplaceAll(want, "%252FT", "%252F"+link[len(link)-i-1:])
				if n := longest(out); n > maxLine+2 || bytes.Contains(bytes.ToLower(out), []byte("quoted-printable")) && longest(out[bytes.Index(out, []byte("\r\n\r\n")):]) > 78 {
					t.Errorf("a line of %d octets", n)
				}
				if got := leafOf(t, out); strings.TrimRight(got, "\r\n") != strings.TrimRight(want, "\r\n") {
					t.Errorf("got  %q\nwant %q", got, want)
				}
			}
		})
	}
}

// leafOf is the decoded body of a message of one part, by the standard library.
func leafOf(t *testing.T, out []byte) string {
	t.Helper()
	head, body, _ := bytes.Cut(out, []byte("\r\n\r\n"))
	low := strings.ToLower(string(head))
	switch {
	case strings.Contains(low, "quoted-printable"):
		var b bytes.Buffer
		if _, err := b.ReadFrom(quotedprintable.NewReader(bytes.NewReader(body))); err != nil {
			t.Fatal(err)
		}
		return b.String()
	case strings.Contains(low, "base64"):
		got, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(string(body), "\r\n", ""))
		if err != nil {
			t.Fatal(err)
		}
		return string(got)
	}
	return string(body)
}
