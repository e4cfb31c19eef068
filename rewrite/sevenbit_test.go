package rewrite

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const mimeHead = "From: a@b.example\r\nMIME-Version: 1.0\r\n"

func TestSevenBit(t *testing.T) {
	blob := "\x89PNG\r\n\x1a\n\x00\xff\xfe\xfd\xfc\xfb"
	for _, tt := range []struct{ name, raw, want string }{
		{"7-bit already", "Subject: x\r\n\r\nhello\r\n", "Subject: x\r\n\r\nhello\r\n"},
		{"7-bit, labelled 8bit", mimeHead + "Content-Transfer-Encoding: 8bit\r\n\r\nhello\r\n", mimeHead + "Content-Transfer-Encoding: 8bit\r\n\r\nhello\r\n"},
		{
			"text labelled 8bit", mimeHead + "content-transfer-encoding: 8BIT (yes)\r\nContent-Type: text/plain;\r\n charset=utf-8\r\nX-Last:  y\r\n\r\nGrüße = \r\n.x\r\n",
			mimeHead + "Content-Transfer-Encoding: quoted-printable\r\nContent-Type: text/plain;\r\n charset=utf-8\r\nX-Last:  y\r\n\r\nGr=C3=BC=C3=9Fe =3D=20\r\n=2Ex\r\n",
		},
		{
			"text without transfer encoding", mimeHead + "Content-Type: text/plain; charset=iso-8859-1\r\n\r\nGr\xfc\xdfe\r\n",
			mimeHead + "Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=DFe\r\n",
		},
		{ // nobody knows its charset: the readers' guess is to stay what it was
			"no MIME at all", "From: a@b.example\r\nSubject: x\r\n\r\nviele Gr\xfc\xdfe\r\n",
			"From: a@b.example\r\nSubject: x\r\nContent-Transfer-Encoding: quoted-printable\r\nMIME-Version: 1.0\r\n\r\nviele Gr=FC=DFe\r\n",
		},
		{
			"text in another script", mimeHead + "Content-Type: text/plain; charset=utf-8\r\n\r\nПривет\r\n",
			mimeHead + "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString([]byte("Привет\r\n")) + "\r\n",
		},
		{
			"stray bytes in quoted-printable", mimeHead + "Content-Transfer-Encoding: quoted-printable\r\n\r\nviele Gr=C3=BC\xc3\x9fe=\r\n",
			mimeHead + "Content-Transfer-Encoding: quoted-printable\r\n\r\nviele Gr=C3=BC=C3=9Fe=\r\n",
		},
		{
			"length and hash", mimeHead + "Content-Length: 7\r\nContent-MD5: abc\r\n\r\nviele Gr\xfc\xdfe\r\n",
			mimeHead + "Content-MD5: abc\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nviele Gr=FC=DFe\r\n",
		},
		{
			"multipart",
			mimeHead + "Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n\r\nVorwort \xfc\r\n--b\r\n\r\nviele Gr\xfc\xdfe\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--b\r\n" +
				"Content-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n" + blob + "\r\n--b--\r\nNachwort \xfc\r\n",
			mimeHead + "Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 7bit\r\n\r\nVorwort ?\r\n--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nviele Gr=FC=DFe\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--b\r\n" +
				"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString([]byte(blob)) + "\r\n--b--\r\nNachwort ?\r\n",
		},
		{
			"message inside", mimeHead + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: inner\r\n\r\nviele Gr\xfc\xdfe\r\n--b--\r\n",
			mimeHead + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\nSubject: inner\r\nContent-Transfer-Encoding: quoted-printable\r\nMIME-Version: 1.0\r\n\r\nviele Gr=FC=DFe\r\n--b--\r\n",
		},
		{
			"a signed part beside", mimeHead + "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n--a\r\n\r\nviele Gr\xfc\xdfe\r\n--a--\r\n",
			mimeHead + "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n--a\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nviele Gr=FC=DFe\r\n--a--\r\n",
		},
		{ // a blob that is signed or encrypted inside is the same blob in another encoding
			"opaque s/mime", mimeHead + "Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: binary\r\n\r\n\xff\xfe\xfd\r\n",
			mimeHead + "Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: base64\r\n\r\n//79DQo=\r\n",
		},
		{
			"internationalised message inside", mimeHead + "Content-Type: message/global\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: für\r\n\r\nviele lange Zeilen\r\n",
			mimeHead + "Content-Type: message/global\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nSubject: f=C3=BCr\r\n\r\nviele lange Zeilen\r\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			kept := strings.Clone(tt.raw)
			got, err := SevenBit([]byte(tt.raw))
			if err != nil || string(got) != tt.want || tt.raw != kept {
				t.Fatalf("%v\n%q\nwant\n%q", err, got, tt.want)
			}
			if again, err := SevenBit(got); err != nil || &again[0] != &got[0] {
				t.Errorf("7-bit is to stay as it is: %q, %v", again, err)
			}
		})
	}
}

func TestSevenBitLongLines(t *testing.T) {
	raw := mimeHead + "Content-Type: text/html; charset=utf-8\r\n\r\n" + strings.Repeat("<p>wörd word</p> ", 500) + "\r\n"
	got, err := SevenBit([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(got) {
		if len(line) > 78 {
			t.Errorf("%d octets: %q", len(line), line)
		}
	}
}

func TestNoSevenBit(t *testing.T) {
	nested := "viele Gr\xfc\xdfe\r\n"
	for range maxMessages + 1 {
		nested = "Content-Type: message/rfc822\r\n\r\n" + nested
	}
	for _, tt := range []struct{ name, raw, why string }{
		{"signed", mimeHead + "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n\xfc\r\n--b--\r\n", "signed"},
		{"signed inside a message", mimeHead + "Content-Type: message/rfc822\r\n\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n\xfc\r\n--b--\r\n", "signed"},
		{"header field", "From: a@b.example\r\nSubject: f\xc3\xbcr\r\n\r\nx\r\n", "the header field Subject has 8-bit bytes"},
		{"file name", mimeHead + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Disposition: attachment; filename=\xfc\r\n\r\nx\r\n--b--\r\n", "the header field Content-Disposition"},
		{"header field of a message inside", mimeHead + "Content-Type: message/rfc822\r\n\r\nSubject: \xfc\r\n\r\nx\r\n", "the header field Subject"},
		{"no blank line", "Subject: x\r\nviele Gr\xfc\xdfe\r\n", "no blank line"},
		{"part without blank line", mimeHead + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nviele Gr\xfc\xdfe\r\n--b--\r\n", "no blank line"},
		{"mbox line", "From \xfc\r\nSubject: x\r\n\r\nx\r\n", "before the header"},
		{"unknown transfer encoding", mimeHead + "Content-Transfer-Encoding: x-uue\r\n\r\n\xfc\r\n", "unknown"},
		{"two transfer encodings", mimeHead + "Content-Transfer-Encoding: 8bit\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\xfc\r\n", "two Content-Transfer-Encoding"},
		{"base64", mimeHead + "Content-Transfer-Encoding: base64\r\n\r\nAAAA\xfc\r\n", "base64"},
		{"encoded multipart", mimeHead + "Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n--b\r\n\r\n\xfc\r\n--b--\r\n", "all the same"},
		{"multipart without parts", mimeHead + "Content-Type: multipart/mixed\r\n\r\nviele Gr\xfc\xdfe\r\n", "may not be encoded"},
		{"delivery status", mimeHead + "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: \xfc\r\n", "may not be encoded"},
		{"two content types", mimeHead + "Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\n\xfc\r\n", "two Content-Type"},
		{"field after junk", "Subject: x\r\njunk\r\nContent-Type: text/html\r\n\r\n\xfc\r\n", "Content-Type"},
		{"messages nested too deep", mimeHead + nested, "deep"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := SevenBit([]byte(tt.raw))
			var r *Refusal
			if !errors.As(err, &r) || !strings.Contains(r.Why, tt.why) || out != nil {
				t.Errorf("got %q, %v, want a refusal that says %q", out, err, tt.why)
			}
		})
	}
}

// A copy with its notice, as it leaves for an upstream without 8BITMIME.
func TestSevenBitOfCopies(t *testing.T) {
	files, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(files) < 15 {
		t.Fatalf("golden files: %d, %v", len(files), err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(strings.TrimSuffix(file, ".eml") + ".want")
		if err != nil {
			t.Fatal(err)
		}
		out, err := SevenBit(raw)
		var r *Refusal
		if strings.Contains(file, "signed") && errors.As(err, &r) { // its signature would break
			continue
		}
		if err != nil || !isASCII(out) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// FuzzSevenBit feeds any message: its 7-bit form, or a Refusal; never a panic, nor a form that reads differently.
func FuzzSevenBit(f *testing.F) {
	files, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds")
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	for _, s := range []string{
		"\r\n\xfc\r\n", mimeHead + "Content-Type: multipart/mixed; boundary=b\r\n\r\n\xfc--b\r\n\r\n\xfc\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nX: y\r\n\r\n\xfc\r\n--b--\xfc\r\n",
		mimeHead + "Content-Transfer-Encoding: quoted-printable\r\n\r\n=C3\xfc= \r\n=\r\n", mimeHead + "Content-Type: application/x; a=b\r\nContent-Transfer-Encoding: binary\r\n\r\n\xff\x00\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		raw = onTheWire(raw)
		if bareCR(raw) || len(raw) > 1<<16 {
			return // refused at the door
		}
		kept := bytes.Clone(raw)
		out, err := SevenBit(raw)
		if !bytes.Equal(raw, kept) {
			t.Fatal("the message itself changed")
		}
		var r *Refusal
		if errors.As(err, &r) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if isASCII(raw) != (&out[0] == &raw[0]) || !isASCII(out) || bareCR(out) || !endsLine(out) || len(out) > 3*len(raw)+len(raw)/10+1024*(1+bytes.Count(raw, []byte("\n"))) {
			t.Fatalf("%d octets became %d: %q", len(raw), len(out), out)
		}
		if longest(out) > max(1000, longest(raw)) {
			t.Fatalf("a line of %d octets", longest(out))
		}
		if again, err := SevenBit(out); err != nil || !bytes.Equal(again, out) {
			t.Fatalf("second pass: %v", err)
		}
	})
}

// TestSevenBitCorpus takes real mail, and lets Python's e-mail package read it before and after.
func TestSevenBitCorpus(t *testing.T) {
	dir := filepath.Join(corpusDir(), "eml")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no corpus beside the repository: %v", err)
	}
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skipf("the second reader needs python3: %v", err)
	}
	out := t.TempDir()
	refused := map[string][]string{}
	already, done := 0, 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".eml") {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		raw = onTheWire(raw)
		if bareCR(raw) {
			return nil // refused at the door
		}
		got, err := SevenBit(raw)
		var r *Refusal
		switch {
		case errors.As(err, &r):
			refused[r.Why] = append(refused[r.Why], rel)
		case err != nil:
			t.Errorf("%s: %v", rel, err)
		case isASCII(raw):
			if already++; !bytes.Equal(got, raw) {
				t.Errorf("%s is 7-bit and changed", rel)
			}
		default:
			done++
			write(t, filepath.Join(out, "old", rel), raw)
			write(t, filepath.Join(out, "new", rel), got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, why := range slices.Sorted(maps.Keys(refused)) {
		total += len(refused[why])
		t.Logf("refused %4d: %s (%s)", len(refused[why]), why, refused[why][0])
	}
	t.Logf("7-bit already %d, encoded %d, refused %d", already, done, total)
	report, err := exec.Command("python3", "testdata/sevenbit.py", filepath.Join(out, "old"), filepath.Join(out, "new")).CombinedOutput()
	if err != nil || done == 0 {
		t.Errorf("%v\n%s", err, report)
	} else {
		t.Logf("%s", report)
	}
}
