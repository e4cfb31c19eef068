package rewrite

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// scripts are texts with letters of each charset that mail has. Python reads them by the strict table of the label, so that
// what only some makers' tables have would be found.
var scripts = []struct{ label, text string }{
	{"us-ascii", "Hello"},
	{"", "Hello"},
	{"iso-8859-1", "Grüße, déjà"},
	{"iso-8859-2", "Żółć ěšč"},
	{"iso-8859-3", "Ĝis ħ"},
	{"iso-8859-4", "Ģirts ķ"},
	{"iso-8859-5", "Привет"},
	{"iso-8859-6", "مرحبا"},
	{"iso-8859-7", "Γειά"},
	{"iso-8859-8", "שלום"},
	{"iso-8859-8-i", "שלום"},
	{"iso-8859-9", "Iğdır Şı"},
	{"iso-8859-10", "Þórr ŋ"},
	{"iso-8859-11", "สวัสดี"},
	{"iso-8859-13", "Ačiū ž"},
	{"iso-8859-14", "ŵ ŷ"},
	{"iso-8859-15", "5 € œ"},
	{"iso-8859-16", "Țara ș"},
	{"latin1", "Grüße"},
	{"iso8859-1", "Grüße"},
	{"cp1252", "„Grüße“"},
	{"windows-1250", "Żółć „x“"},
	{"windows-1251", "Привет — ё"},
	{"windows-1252", "„Grüße“ €"},
	{"windows-1253", "Γειά €"},
	{"windows-1254", "Iğdır"},
	{"windows-1255", "שלום"},
	{"windows-1256", "مرحبا"},
	{"windows-1257", "Ačiū"},
	{"windows-1258", "đ ơ ư"},
	{"windows-874", "สวัสดี"},
	{"tis-620", "สวัสดี"},
	{"koi8-r", "Привет"},
	{"koi8-u", "Привіт Є"},
	{"gb2312", "你好"},
	{"gbk", "你好 臺"},
	{"gb18030", "你好 臺 ü"},
	{"big5", "你好 臺"},
	{"shift_jis", "こんにちは ｱ"},
	{"iso-2022-jp", "こんにちは"},
	{"euc-jp", "こんにちは"},
	{"euc-kr", "안녕"},
	{"ks_c_5601-1987", "안녕"},
	{"utf-8", "Grüße Γειά 你好 🎉"},
	{"UTF-8", "\ufeffGrüße"},
	{"utf-16le", "Grüße 你"},
	{"utf-16be", "Grüße 🎉"},
	{"utf-16", "Grüße"},
	{"utf-7", "Grüße + ~"},
}

var tableNotices = map[string]string{
	"ascii": "This is advertising. Unsubscribe: https://opt.acme.example/u/T", "latin": "Dies ist Werbung der Müller GmbH für Größe.",
	"greek": "Αυτό είναι διαφήμιση.", "cyrillic": "Това е реклама.", "japanese": "これは広告です。",
}

// reader decodes with Python's own codecs: one JSON value a line in, the text of each out.
const reader = `
import email, email.policy, sys, json, base64, html
ALIAS = {'us-ascii':'ascii','':'ascii','iso-8859-8-i':'iso-8859-8','windows-874':'cp874','tis-620':'iso8859-11','ks_c_5601-1987':'cp949','utf-16':'utf-16'}
out = []
for line in sys.stdin:
    m = email.message_from_bytes(base64.b64decode(line), policy=email.policy.compat32)
    cs = (m.get_content_charset() or '')
    try:
        t = m.get_payload(decode=True).decode(ALIAS.get(cs, cs))
        if m.get_content_subtype() == 'html': t = html.unescape(t)
    except Exception as e: t = 'ERROR ' + repr(e)
    out.append(t)
json.dump(out, sys.stdout)
`

// TestCharsetTable puts five notices into texts of every charset in every transfer encoding, and lets Python read the
// copies: the text as it was and the notice, letter by letter, in the charset of the part or in UTF-8.
func TestCharsetTable(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	type sample struct{ name, text, notice string }
	var samples []sample
	var in bytes.Buffer
	for _, s := range scripts {
		cs := charsetOf(s.label, []byte("\xff\xfe"))
		for _, typ := range []string{"plain", "html"} {
			text := s.text + "\r\nzweite Zeile\r\n"
			if typ == "html" {
				text = "<meta charset=windows-1252><p>" + s.text + "</p>\r\n"
			}
			body, ok := cs.encodeBody(text)
			if !ok {
				t.Fatalf("%s cannot hold its own sample", s.label)
			}
			for _, cte := range []string{"7bit", "8bit", "binary", "quoted-printable", "base64"} {
				if cs.width() == 2 && cte != "base64" && cte != "quoted-printable" {
					continue // refused: its line ends are none
				}
				raw := plain + "Content-Type: text/" + typ
				if s.label != "" {
					raw += "; charset=" + s.label
				}
				raw += "\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: " + cte + "\r\n\r\n" + encodeFor(cte, body, cs.width() == 2)
				for script, notice := range tableNotices {
					name := fmt.Sprintf("%s text/%s %s, %s notice", s.label, typ, cte, script)
					tr := short(t, "")
					tr.Notice = Notice{notice, "<p>" + notice + "</p>"}
					out, err := rewriteOnce([]byte(raw), tr)
					if err != nil {
						if name := cs.name(); typ == "plain" && (name == "iso-8859-8" || name == "iso-8859-6") { // it cannot be converted
							continue
						}
						t.Errorf("%s: %v", name, err)
						continue
					}
					wantLines(t, name, out)
					if folded := foldASCII(notice); typ == "plain" && isASCII([]byte(folded)) && (cs.name() == "iso-8859-8" || cs.name() == "iso-8859-6") {
						notice = folded
					}
					samples = append(samples, sample{name, text, notice})
					in.WriteString(base64.StdEncoding.EncodeToString(out) + "\n")
				}
			}
		}
	}
	cmd := exec.Command(python, "-c", reader)
	cmd.Stdin = &in
	answer, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	if err := json.Unmarshal(answer, &texts); err != nil || len(texts) != len(samples) {
		t.Fatalf("%d texts of %d, %v", len(texts), len(samples), err)
	}
	for i, s := range samples {
		got := strings.TrimPrefix(texts[i], "\ufeff")
		if !strings.HasPrefix(got, strings.TrimPrefix(s.text, "\ufeff")) || strings.Count(got, s.notice) != 1 {
			t.Errorf("%s: Python reads %q", s.name, got)
		}
	}
	t.Logf("%d copies", len(samples))
}

// encodeBody is encode with the byte order mark that UTF-16 needs.
func (c charset) encodeBody(text string) ([]byte, bool) {
	if c.label == "utf-16" {
		text = "\ufeff" + text
	}
	return c.encode(text)
}

func encodeFor(cte string, body []byte, wide bool) string {
	switch cte {
	case "quoted-printable":
		return string(encodeQuoted(body, wide))
	case "base64":
		return string(appendBase64(nil, [][]byte{body})) + "\r\n"
	}
	return string(body)
}

// wantLines holds the limits of RFC 5322 section 2.1.1 and RFC 2045 section 6.
func wantLines(t *testing.T, name string, out []byte) {
	t.Helper()
	head, body, _ := bytes.Cut(out, []byte("\r\n\r\n"))
	limit := 998
	if h := strings.ToLower(string(head)); strings.Contains(h, "encoding: quoted-printable") || strings.Contains(h, "encoding: base64") {
		limit = 76
	}
	for l := range bytes.SplitSeq(body, []byte("\r\n")) {
		if len(l) > limit {
			t.Errorf("%s: a line of %d octets", name, len(l))
		}
	}
}

// TestPortable gives every pair of bytes that counts as portable to Python's tables, the strict one and the vendors'.
func TestPortable(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	type pair struct{ Bytes, Text string }
	pairs := map[string][]pair{}
	for label, codecs := range map[string][]string{
		"gb2312": {"gb2312", "gbk", "gb18030"}, "gbk": {"gbk", "gb18030"}, "gb18030": {"gb18030"}, "big5": {"big5", "cp950", "big5hkscs"},
		"shift_jis": {"shift_jis", "cp932"}, "euc-jp": {"euc_jp"}, "euc-kr": {"euc_kr", "cp949"},
	} {
		cs := charsetOf(label, nil)
		var found []pair
		for x := range 0x7e {
			for y := range 0xbf {
				b := []byte{byte(x + 0x81), byte(y + 0x40)}
				if s, ok := cs.decode(b); ok && b[1] != 0x7f && cs.portable(b, s) {
					found = append(found, pair{fmt.Sprintf("%x", b), s})
				}
			}
		}
		if len(found) < 2000 {
			t.Errorf("%s: %d characters are portable", label, len(found))
		}
		t.Logf("%s: %d pairs", label, len(found))
		for _, codec := range codecs {
			pairs[codec] = append(pairs[codec], found...)
		}
	}
	in, err := json.Marshal(pairs)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "-c", `
import json, sys
for codec, pairs in json.load(sys.stdin).items():
    for p in pairs:
        got = bytes.fromhex(p['Bytes']).decode(codec, 'replace')
        if got != p['Text']: print(codec, p['Bytes'], got, p['Text'])
`)
	cmd.Stdin = bytes.NewReader(in)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v, Python reads otherwise:\n%s", err, out[:min(len(out), 2000)])
	}
}
