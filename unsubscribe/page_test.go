package unsubscribe

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"math"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"heed/policy"
)

func TestPageLanguage(t *testing.T) {
	tests := []struct{ name, query, accept, want string }{
		{"none", "", "", "en"},
		{"German", "", "de", "de"},
		{"Austrian", "", "de-AT, en;q=0.5", "de"},
		{"preferred", "", "en;q=0.5, de;q=0.9", "de"},
		{"unknown", "", "tlh", "en"},
		{"next best", "", "tlh, de;q=0.1", "de"},
		{"broken", "", "de-de-de-;;;q=x", "en"},
		{"switch", "?lang=de", "en", "de"},
		{"switch back", "?lang=en", "de", "en"},
		{"switch to nothing", "?lang=../../etc/passwd", "de", "de"},
		{"broken query", "?%zz;&lang=de", "", "de"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t)
			target := "/u/" + d.token("news", policy.ScopeTopic) + tt.query
			for _, w := range []*httptest.ResponseRecorder{
				d.do("GET", target, "", "", "Accept-Language", tt.accept),
				d.do("POST", target, form, "scope=topic", "Accept-Language", tt.accept),
				d.do("GET", "/u/x"+tt.query, "", "", "Accept-Language", tt.accept),
			} {
				if !strings.Contains(w.Body.String(), `<html lang="`+tt.want+`">`) || w.Header().Get("Content-Language") != tt.want {
					t.Errorf("not %s:\n%.200s", tt.want, w.Body)
				}
			}
		})
	}
}

// everyPage asks for each of them in a language.
func everyPage(d *desk, lang string) map[string]string {
	token := d.token("news", policy.ScopeTopic)
	target, bare := "/u/"+token+"?lang="+lang, "/u/"+d.token("", policy.ScopeTopic)+"?lang="+lang
	pages := map[string]string{
		"ask":         d.do("GET", target, "", "").Body.String(),
		"ask, bare":   d.do("GET", bare, "", "").Body.String(),
		"nothing":     d.do("POST", target, form, "undo=1").Body.String(),
		"not found":   d.do("GET", "/u/x?lang="+lang, "", "").Body.String(),
		"bad request": d.do("POST", target, form, "").Body.String(),
		"not allowed": d.do("PUT", target, "", "").Body.String(),
	}
	for _, s := range []string{"topic", "sender", "all"} {
		pages["stopped "+s] = d.do("POST", target, form, "scope="+s).Body.String()
		pages["still "+s] = d.do("POST", target, form, "scope="+s).Body.String()
	}
	pages["undone"] = d.do("POST", target, form, "undo=1").Body.String()
	d.state.down = errors.New("down")
	pages["unavailable"] = d.do("POST", target, form, "undo=1").Body.String()
	return pages
}

func TestEveryPageIsWellMade(t *testing.T) {
	for _, lang := range []string{"en", "de"} {
		titles := map[string]bool{}
		for name, body := range everyPage(newDesk(t), lang) {
			t.Run(lang+" "+name, func(t *testing.T) {
				if len(body) >= 20<<10 {
					t.Errorf("%d bytes", len(body))
				}
				for _, bad := range []string{"<script", "http://", "https://", "//", "{", "url(", "@import", "ZgotmplZ", " style=", "\x00", "<no value>"} {
					if strings.Contains(stripStyle(body), bad) {
						t.Errorf("the page has %q:\n%s", bad, body)
					}
				}
				for _, want := range []string{`<html lang="` + lang + `">`, `width=device-width`, "<title>", "<main>", "<h1>"} {
					if strings.Count(body, want) != 1 {
						t.Errorf("%d times %q", strings.Count(body, want), want)
					}
				}
				if strings.Contains(body, "Acme") == strings.HasPrefix(name, "not ") && name != "unavailable" && name != "bad request" {
					t.Errorf("names the sender or not:\n%s", body)
				}
				wellFormed(t, body)
			})
			titles[regexp.MustCompile(`<h1>(.*)</h1>`).FindString(body)] = true
		}
		if len(titles) != 7 { // stopped and still share one, bad request and not allowed another
			t.Errorf("%s: %d titles: %v", lang, len(titles), titles)
		}
	}
}

func stripStyle(body string) string {
	i, j := strings.Index(body, "<style>"), strings.Index(body, "</style>")
	return body[:i] + body[j:]
}

// wellFormed reads the page as XML, void elements aside: every element is closed and every value escaped.
func wellFormed(t *testing.T, body string) {
	t.Helper()
	dec := xml.NewDecoder(strings.NewReader(regexp.MustCompile(`(<meta[^>]*)>`).ReplaceAllString(body, "$1/>")))
	for {
		_, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Errorf("%v in\n%s", err, body)
			return
		}
	}
}

func TestCSPAllowsThisStyleAndNothingElse(t *testing.T) {
	d := newDesk(t)
	w := d.do("GET", "/u/"+d.token("news", policy.ScopeTopic), "", "")
	m := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(w.Body.String())
	sum := sha256.Sum256([]byte(m[1]))
	want := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	if got := w.Header().Get("Content-Security-Policy"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestMarkupInEveryField(t *testing.T) {
	const evil = `"'><script>x</script>{topic}`
	d := newDesk(t)
	d.senders["acme"] = policy.Sender{Name: "N" + evil, PostalAddress: "P" + evil, Contact: "C" + evil}
	token := d.token(evil[:28], policy.ScopeTopic) // what fits
	for name, w := range map[string]*httptest.ResponseRecorder{
		"page":    d.do("GET", "/u/"+token, "", ""),
		"stopped": d.press(token, "scope=topic"),
		"still":   d.press(token, "scope=topic"),
		"undone":  d.press(token, "undo=1"),
		"query":   d.do("GET", "/u/"+token+"?lang="+"%22%3E%3Cscript%3E", "", "", "Accept-Language", evil, "User-Agent", evil, "Referer", evil),
	} {
		body := w.Body.String()
		if w.Code != 200 || strings.Contains(body, "<script") {
			t.Errorf("%s: %d\n%s", name, w.Code, body)
		}
		wellFormed(t, body)
		for _, field := range []string{"N", "P", "C"} {
			if !strings.Contains(html.UnescapeString(body), field+evil) {
				t.Errorf("%s: the field %s is not shown as it is:\n%s", name, field, body)
			}
		}
	}
}

func TestMask(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain", "james@corp.example", "j•••@c•••.example"},
		{"subdomain", "james@mail.corp.co.uk", "j•••@m•••.uk"},
		{"short", "j@c.de", "j•••@c•••.de"},
		{"not ASCII", "élise@corp.example", "é•••@c•••.example"},
		{"at in the local part", "a@b@corp.example", "a•••@c•••.example"},
		{"no dot", "root@localhost", "r•••@l•••"},
		{"address literal", "a@[192.0.2.1]", "a•••@[•••"},
		{"none", "", ""},
		{"no domain", "a@", ""},
		{"no local part", "@b.example", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := mask(tt.in); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestPageWithoutTheAddress(t *testing.T) {
	d := newDesk(t)
	d.state.noName = errors.New("down")
	w := d.do("GET", "/u/"+d.token("news", policy.ScopeTopic), "", "")
	if w.Code != 200 || !strings.Contains(w.Body.String(), "This address was sent a message by Acme Ltd.") {
		t.Errorf("%d\n%s", w.Code, w.Body)
	}
}

// TestWordsAreComplete: no language lacks a word, and all fill in the same values.
func TestWordsAreComplete(t *testing.T) {
	p, err := loadPages()
	if err != nil {
		t.Fatal(err)
	}
	holes := func(w words) map[string]string {
		found := map[string]string{}
		var walk func(path string, v reflect.Value)
		walk = func(path string, v reflect.Value) {
			switch v.Kind() {
			case reflect.Struct:
				for i := range v.NumField() {
					walk(path+"."+v.Type().Field(i).Name, v.Field(i))
				}
			case reflect.Slice:
				for i := range v.Len() {
					walk(path+strconv.Itoa(i), v.Index(i))
				}
			case reflect.String:
				if v.String() == "" {
					return
				}
				got := map[string]bool{}
				for _, hole := range regexp.MustCompile(`\{[^}]*\}?`).FindAllString(v.String(), -1) {
					got[hole] = true
				}
				found[path] = fmt.Sprint(got)
			}
		}
		walk("", reflect.ValueOf(w))
		return found
	}
	want := holes(p.words[0])
	for _, w := range p.words {
		if got := holes(w); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\nwant %v", w.Tag, got, want)
		}
	}
	for path, names := range want {
		if strings.Trim(strings.NewReplacer("{address}", "", "{sender}", "", "{topic}", "", "{time}", "").Replace(names), "map[]:true ") != "" {
			t.Errorf("%s has %s", path, names)
		}
	}
}

// TestContrast: text on its ground has 4.5:1 and borders 3:1 in both colour schemes (WCAG 2.2, 1.4.3 and 1.4.11).
func TestContrast(t *testing.T) {
	css, err := pageFiles.ReadFile("pages/style.css")
	if err != nil {
		t.Fatal(err)
	}
	schemes := regexp.MustCompile(`:root \{([^}]*)\}`).FindAllStringSubmatch(string(css), -1)
	if len(schemes) != 2 {
		t.Fatalf("%d schemes", len(schemes))
	}
	for i, s := range schemes {
		colour := map[string]float64{}
		for _, m := range regexp.MustCompile(`--([a-z-]+): #([0-9a-f]{6});`).FindAllStringSubmatch(s[1], -1) {
			colour[m[1]] = luminance(t, m[2])
		}
		for _, pair := range []struct {
			front, back string
			least       float64
		}{{"ink", "paper", 4.5}, {"soft", "paper", 4.5}, {"main", "paper", 4.5}, {"on-main", "main", 4.5}, {"line", "paper", 3}} {
			a, b := colour[pair.front], colour[pair.back]
			if ratio := (max(a, b) + .05) / (min(a, b) + .05); ratio < pair.least {
				t.Errorf("scheme %d: %s on %s has %.1f:1", i, pair.front, pair.back, ratio)
			}
		}
	}
}

func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	n, err := strconv.ParseUint(hex, 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	linear := func(c uint64) float64 {
		v := float64(c&0xff) / 255
		if v <= .04045 {
			return v / 12.92
		}
		return math.Pow((v+.055)/1.055, 2.4)
	}
	return .2126*linear(n>>16) + .7152*linear(n>>8) + .0722*linear(n)
}
