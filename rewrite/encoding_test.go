package rewrite

import (
	"bytes"
	"io"
	"mime/quotedprintable"
	"strings"
	"testing"
)

func TestQuotedPrintable(t *testing.T) {
	for _, text := range []string{"", "a", "ü=\t \r\n x \r\n", strings.Repeat("wörd ", 60), ".\r\n-- \r\nFrom me\r\n--b", "a\rb\nc"} {
		for _, binary := range []bool{false, true} {
			enc := encodeQuoted([]byte(text), binary)
			got, _ := decodeQuoted(enc)
			if string(got) != text {
				t.Errorf("binary %v: %q became %q", binary, text, got)
			}
			std, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(enc)))
			if err != nil || string(std) != text {
				t.Errorf("the standard library reads %q as %q, %v", enc, std, err)
			}
			for l := range bytes.Lines(enc) {
				if l = bytes.TrimRight(l, "\r\n"); len(l) > 76 || bytes.HasPrefix(l, []byte("From ")) || bytes.HasPrefix(l, []byte("--")) || bytes.Equal(l, []byte(".")) {
					t.Errorf("line %q", l)
				}
			}
		}
	}
}

// A splice before every byte reads back as exactly that insertion.
func TestSpliceEverywhere(t *testing.T) {
	bodies := map[string]struct {
		cte transfer
		raw string
	}{
		"quoted-printable": {quoted, "a=C3=BC  \r\nsoft=\r\nbreak=20\r\n\r\nb =  \r\nlast=zz\r\n"},
		"base64":           {base64ed, "QUJDREVGR0hJSktMTU5PUA==\r\n"},
		"base64, odd":      {base64ed, "QUJ\r\nDREVGR0hJSk\r\ntMTU5PUA"},
		"base64, spaced":   {base64ed, " Q U J D\r\n\r\nREVG\r\n\r\n"},
		"8bit":             {identity, "ab\r\n\xff\r\n"},
	}
	for name, tt := range bodies {
		old, ok := tt.cte.decode([]byte(tt.raw))
		if !ok {
			t.Fatal(name)
		}
		for k := range len(old) + 1 {
			if k > 0 && k < len(old) && old[k-1] == '\r' && old[k] == '\n' {
				continue // no place in it lies inside a line end
			}
			ins := []byte("<N\xc3\xa9>\r\n")
			b := &body{part: &part{}, cte: tt.cte, cs: charset{label: "utf-8", utf8: true}, raw: []byte(tt.raw), decoded: old, spots: []spot{{at: k, content: theSwitches}}}
			if err := b.settle(); err != nil {
				t.Fatal(err)
			}
			c := &change{body: b, gaps: b.gaps(), fills: [][]byte{ins}}
			b.splice(&Mail{raw: []byte(tt.raw)}, c)
			out, err := apply(0, []byte(tt.raw), c.edits)
			if err != nil {
				t.Fatal(err)
			}
			got, ok := tt.cte.decode(out)
			mid := bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimPrefix(got, old[:k]), old[k:]))
			if !ok || !bytes.HasPrefix(got, old[:k]) || !bytes.HasSuffix(bytes.TrimRight(got, "\r\n"), bytes.TrimRight(old[k:], "\r\n")) || !bytes.HasPrefix(mid, bytes.TrimSpace(ins)) {
				t.Errorf("%s at %d: %q decodes to %q", name, k, out, got)
			}
		}
	}
}

func TestCharsets(t *testing.T) {
	for _, tt := range []struct{ label, text, want string }{ // want "-": cannot be written
		{"", "ü", "-"},
		{"US-ASCII (Plain text)", "a", "a"},
		{"iso-8859-1", "ü", "\xfc"},
		{"iso-8859-1", "€", "-"},
		{"windows-1252", "€", "\x80"},
		{"ISO-8859-15", "€", "\xa4"},
		{"koi8-r", "Д", "\xe4"},
		{"shift_jis", "日", "\x93\xfa"},
		{"iso-2022-jp", "日", "\x1b$BF|\x1b(B"},
		{"utf-7", "a+ü~", "a+ACsA/AB+-"},
		{"utf-16le", "aü", "a\x00\xfc\x00"},
		{"utf-16be", "a", "\x00a"},
		{"hz-gb-2312", "a~", "a~~"},
		{"x-unknown", "a", "a"},
		{"x-unknown", "ü", "-"},
		{"utf-32", "a", "-"},
		{"ibm037", "a", "-"},
	} {
		got, ok := charsetOf(tt.label, nil).encode(tt.text)
		if want := tt.want; ok == (want == "-") || ok && string(got) != want {
			t.Errorf("%q in %s: got %q, %v, want %q", tt.text, tt.label, got, ok, want)
		}
	}
}

// Bytes that look like markup in a shifted charset are no markup.
func TestViews(t *testing.T) {
	for _, tt := range []struct{ label, raw, want string }{
		{"iso-2022-jp", "<b>\x1b$B</>\x1b(B</b>", "<b>xxxxxxxxx</b>"},
		{"hz-gb-2312", "a~{<>~}b", "axxxxxxb"},
		{"utf-7", "a+ADw-<b>", "axxxx-<b>"},
		{"utf-16le", "<\x00\x3c\x30>\x00", "<x>"},
		{"utf-8", "<ü>", "<ü>"},
	} {
		if got := charsetOf(tt.label, nil).view([]byte(tt.raw)); string(got) != tt.want {
			t.Errorf("%s: got %q, want %q", tt.label, got, tt.want)
		}
	}
}

func TestFoldASCII(t *testing.T) {
	for in, want := range map[string]string{"Straße für Œuvre, Łódź": "Strasse fuer Oeuvre, Lodz", "„a“ – 5 €": `"a" - 5 EUR `, "café": "cafe"} {
		if got := foldASCII(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	if isASCII([]byte(foldASCII("Αθήνα"))) {
		t.Error("Greek cannot be folded")
	}
}
