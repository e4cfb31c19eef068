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
		{"faint", "<body><div style='opacity: 5%'>x@</body>", "</div>"},
		{"class", "<style>.a .b{color:red}.h,.x{DISPLAY:none !important}</style><body><div class='b h'>x@</body>", "</div>"},
		{"id", "<style>p#h { visibility : hidden }</style><body><p id=h><i>x@</body>", "</i></p>"},
		{"tag", "<style>center{height:0;overflow:hidden}</style><body><center>x@</body>", "</center>"},
		{"class of other elements", "<style>.h{display:none}</style><body><div class=b>x@</body>", ""},
		{"class within another", "<style>.a .h{display:none}</style><body><div class=a><p class=h>x@</body>", "</p>"},
		{"class not within another", "<style>.a .h{display:none}</style><body><div class=h>x@</body>", ""},
		{"class beside another", "<style>.a + .h{display:none}</style><body><div class=h>x@</body>", "</div>"},
		{"class on small screens", "<style>@media only screen and (max-width:480px){ .h {max-height:0!important} }</style><body><div class=h>x@</body>", "</div>"},
		{"class in dark mode", "<style>@media (prefers-color-scheme: dark){.h{display:none}}</style><body><div class=h>x@</body>", "</div>"},
		{"class on paper", "<style>@media print{.h{display:none}}</style><body><div class=h>x@</body>", ""},
		{"class in Outlook", "<!--[if mso]><style>.h{mso-hide:all}</style><![endif]--><body><div class=h>x@</body>", "</div>"},
		{"class where Outlook is not", "<!--[if !mso]><style>.h{mso-hide:all}</style><![endif]--><body><div class=h>x@</body>", ""},
		{"class in Outlook.com", "<style>[data-ogsc] .h{display:none}</style><body><div class=h>x@</body>", "</div>"},
		{"attribute", "<style>div[class*=\"hid\"]{display:none}</style><body><div class=ishidden>x@</body>", "</div>"},
		{"cell, which is closed with its table", "<style>.h{display:none}</style><body><table><tr><td class=h>x@</body>", "</td></tr></table>"},
		{"two rules for one element", "<style>.a{height:1px}.b{overflow:hidden}</style><body><div class='a b'>x@</body>", "</div>"},
		{"a rule and a style", "<style>.a{height:1px}</style><body><div class=a style='overflow:hidden'>x@</body>", "</div>"},
		{"escapes and comments in a rule", "<style>/* } */ .sm\\:h{d\\69splay/**/:none}</style><body><div class='sm:h'>x@</body>", "</div>"},
		{"brace in a string", "<style>.a:after{content:'}'}.h{display:none}</style><body><div class=h>x@</body>", "</div>"},
		{"rule never closed", "<style>.h{display:none</style><body><div class=h>x@</body>", "</div>"},
		{"rules in rules", "<style>.a{color:red; &.h{display:none}}</style><body><div class='a h'>x@</body>", "</div>"},
		{"shown when pointed at", "<style>.h:hover{display:none}.h::before{display:none}</style><body><div class=h>x@</body>", ""},
		{"frames of an animation", "<style>@keyframes k{from{opacity:0}to{opacity:1}}</style><body><div class=from>x@</body>", ""},
		{"style sheet behind the element", "<body><div class=h>x<style>.h{display:none}</style>@</body>", "</div>"},
		{"class that a browser opens again", "<style>.h{display:none}</style><body><div><b class=h>x</div>@</body>", "</b>"},
		{"off screen", "<body><div style='position:absolute;left:-9999px'>x@</body>", "</div>"},
		{"out of the flow", "<body><div style='position:fixed;bottom:0'>x@</body>", "</div>"},
		{"indented, which a notice is not", "<body><div style='text-indent:-9999px'>x@</body>", ""},
		{"margin off screen", "<body><div style='margin:0 0 0 -999em'>x@</body>", "</div>"},
		{"clipped", "<body><div style='clip-path:inset(50%)'>x@</body>", "</div>"},
		{"shrunk", "<body><div style='-webkit-transform:scale(0)'>x@</body>", "</div>"},
		{"zoom that changes nothing", "<body><div style='zoom:1;width:100%;max-width:600px;margin:0 auto'>x@</body>", ""},
		{"no width", "<body><div style='width:0;overflow:hidden'>x@</body>", "</div>"},
		{"height without an edge", "<body><div style='height:100px'>x@</body>", ""},
		{"body as high as the window", "<style>html,body{height:100%!important;overflow:hidden}</style><body>x@</body>", ""},
		{"body that clips sideways", "<style>body{height:300px;overflow:hidden auto}</style><body>x@</body>", ""},
		{"all but the body", "<style>body *{display:none}</style><body>x@</body>", ""},
		{"overlay below a notice", "<body><div style='position:fixed;z-index:999'>x</div>@</body>", ""},
		{"body end that Outlook does not see", "<body>x@<![if !mso]><p>y</p></body><![endif]></html>", ""},
		{"body end that Outlook does not see, in comments", "<body>x@<!--[if !mso]><!--><p>y</p></body><!--<![endif]--></html>", ""},
		{"body whole of which Outlook does not see", "<![if !mso]><body>x@</body><![endif]>", ""},
		{"shown to all but Outlook, and over", "<body><![if !mso]>x<![endif]>@</body>", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := strings.LastIndexByte(tt.doc, '@')
			doc := tt.doc[:at] + tt.doc[at+1:]
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
		"hidden body":                     "<body style='visibility:hidden'>x</body>",
		"body hidden by a style sheet":    "<style>body{opacity:0}</style><body>x</body>",
		"body hidden by its class":        "<style>td,.x.y{display:none}</style><body class='y x'>x</body>",
		"body that is not written":        "<style>html body{display:none}</style>x",
		"body of no height":               "<style>body{height:1px}html body{overflow:hidden}</style><body>x</body>",
		"body off screen":                 "<style>@media (max-width:600px){body{margin-left:-5000px}}</style><body>x</body>",
		"html hidden":                     "<style>:root{visibility:hidden}</style><body>x</body>",
		"all hidden":                      "<style>*{display:none}</style><body>x</body>",
		"overlay above a notice":          "<body>x<div style='position:fixed;z-index:2147483647'>y</div></body>",
		"overlay above a notice, by rule": "<style>.o{position:absolute;z-index:99999}</style><body>x<div class=o>y</div></body>",
		"frames":                          "<frameset><frame></frameset>",
		"body end first":                  "</body><body>x",
		"nested past sane":                "<div hidden>x</div>" + strings.Repeat("<div>", 600),
	} {
		if p, err := findPlace([]byte(doc)); err == nil {
			t.Errorf("%s: got %v, want an error", name, p)
		}
	}
}
