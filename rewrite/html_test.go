package rewrite

import (
	"strings"
	"testing"
)

// The notice goes where @ stands, after the end tags in closes.
func TestFindPlace(t *testing.T) {
	for _, tt := range []struct{ name, doc, closes string }{
		{"ordinary", "<html><body><p>x</p>@</body></html>", ""},
		{"nothing", "@", ""},
		{"text", "x@", ""},
		{"no body", "<p>x</p>@</html>", ""},
		{"body end in a comment", "<body>x<!-- </body> -->@</body>", ""},
		{"body end in a conditional comment", "<body>x<!--[if mso]></body><![endif]-->@</body></html>", ""},
		{"body end in a comment after the real one", "<body>x@</body><!-- </body></html> -->", ""},
		{"body end in a script", "<body>x<script>'</body>'</script>@</body>", ""},
		{"body end in an attribute", "<body><a title='</body>'>x</a>@</body>", ""},
		{"body end in a title", "<title></body></title><body>x@</body>", ""},
		{"two documents", "<body>x</body><body>y@</body>", ""},
		{"spaced and in capitals", "<BODY>x@</BODY\n ></HTML>", ""},
		{"no script is run", "<body>x<noscript>y@</body>", ""},
		{"style never closed", "<body>x@<style>p{}</body></html>", ""},
		{"textarea never closed", "<body>x@<textarea></body></html>", ""},
		{"title never closed", "<html><head>@<title>x<body>y</body>", ""},
		{"comment never closed", "<body>x@<!-- </body></html>", ""},
		{"tag never closed", "<body>x@<a href=\"</body></html>", ""},
		{"comment closed in odd ways", "<body>x<!--><!---><!-- a --!>@</body>", ""},
		{"hidden preheader, closed", "<body><div style='display:none'>x</div>y@</body>", ""},
		{"hidden and never closed", "<body><div style='display:none'>x@</body>", "</div>"},
		{"hidden by !important in capitals", "<body><p style='DISPLAY : NONE !important'>x@</body>", "</p>"},
		{"hidden by attribute", "<body><div hidden><b>x@</body>", "</b></div>"},
		{"hidden by an escaped style", "<body><div style='display&#58;none'>x@</body>", "</div>"},
		{"hidden for Outlook", "<body><span style='mso-hide:all'>x@</body>", "</span>"},
		{"template never closed", "<body>x<template>@</body>", "</template>"},
		{"select never closed", "<body>x<select><option>@</body>", "</option></select>"},
		{"hidden by !important with a blank", "<body><p style='opacity:0 ! important'>x@</body>", "</p>"},
		{"collapsed", "<body><p style='visibility:collapse'>x@</body>", "</p>"},
		{"fallback of a video", "<body><video>x@</body>", "</video>"},
		{"fallback of an object", "<body><object data=x><p>x@</body>", "</p></object>"},
		{"closed dialog", "<body><dialog>x@</body>", "</dialog>"},
		{"folded details", "<body><details><summary>y</summary>x@</body>", "</details>"},
		{"font size zero does not matter", "<body style='font-size:0'>x@</body>", ""},
		{"bold that a browser opens again", "<body><div><b style='display:none'>x</div>@</body>", "</b>"},
		{"opacity that is not zero", "<body><div style='opacity:0.9'>x@</body>", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			doc := strings.Replace(tt.doc, "@", "", 1)
			p, err := findPlace([]byte(doc))
			if err != nil {
				t.Fatal(err)
			}
			if got := doc[:p.at] + "@" + doc[p.at:]; got != tt.doc || p.closes != tt.closes {
				t.Errorf("got %s after %q, want %s after %q", got, p.closes, tt.doc, tt.closes)
			}
		})
	}
}

func TestFindPlaceRefuses(t *testing.T) {
	for name, doc := range map[string]string{
		"hidden body":      "<body style='visibility:hidden'>x</body>",
		"frames":           "<frameset><frame></frameset>",
		"body end first":   "</body><body>x",
		"nested past sane": "<div hidden>x</div>" + strings.Repeat("<div>", 600),
	} {
		if p, err := findPlace([]byte(doc)); err == nil {
			t.Errorf("%s: got %v, want an error", name, p)
		}
	}
}
