package unsubscribe

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"golang.org/x/text/language"

	"heed/policy"
)

//go:embed pages
var pageFiles embed.FS

// pages turns answers into HTML. The words are data, one file per language; one template serves all.
type pages struct {
	template *template.Template
	style    template.CSS
	csp      string
	words    []words // the first is for those who speak none of the others
	matcher  language.Matcher
}

// words is one language.
type words struct {
	Tag         string `yaml:"-"`
	Name        string `yaml:"name"`
	Time        string `yaml:"time"`
	Languages   string `yaml:"languages"`
	ThisAddress string `yaml:"this_address"`
	Ask         text   `yaml:"ask"`
	Stopped     text   `yaml:"stopped"`
	Still       text   `yaml:"still"`
	Undone      text   `yaml:"undone"`
	Nothing     text   `yaml:"nothing"`
	NotFound    text   `yaml:"not_found"`
	Unavailable text   `yaml:"unavailable"`
	BadRequest  text   `yaml:"bad_request"`
	NotAllowed  text   `yaml:"not_allowed"`
}

// text is one page's words. Topic, Sender and All are its buttons or its first sentence, by scope.
type text struct {
	Title  string   `yaml:"title"`
	Text   []string `yaml:"text"`
	Topic  string   `yaml:"topic"`
	Sender string   `yaml:"sender"`
	All    string   `yaml:"all"`
	Undo   string   `yaml:"undo"`
}

func (t text) of(s policy.Scope) string {
	return map[policy.Scope]string{policy.ScopeTopic: t.Topic, policy.ScopeSender: t.Sender, policy.ScopeAll: t.All}[s]
}

// page is what the template shows.
type page struct {
	Lang, Title    string
	Style          template.CSS
	Text           []string
	Buttons        []button
	Sender         *policy.Sender
	LanguagesLabel string
	Languages      []words
}

type button struct {
	Name, Value, Text string
	Main              bool
}

func loadPages() (*pages, error) {
	t, err := template.ParseFS(pageFiles, "pages/page.html")
	if err != nil {
		return nil, err
	}
	style, err := pageFiles.ReadFile("pages/style.css")
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(style)
	p := &pages{template: t, style: template.CSS(style), csp: fmt.Sprintf(
		"default-src 'none'; style-src 'sha256-%s'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
		base64.StdEncoding.EncodeToString(sum[:]))}
	var tags []language.Tag
	for _, tag := range []string{"en", "de"} {
		raw, err := pageFiles.ReadFile("pages/" + tag + ".yaml")
		if err != nil {
			return nil, err
		}
		w := words{Tag: tag}
		if err := yaml.UnmarshalWithOptions(raw, &w, yaml.Strict()); err != nil {
			return nil, fmt.Errorf("pages/%s.yaml: %w", tag, err)
		}
		p.words = append(p.words, w)
		tags = append(tags, language.Make(tag))
	}
	p.matcher = language.NewMatcher(tags)
	return p, nil
}

// speak picks the language: what the page's own switch asks for, then what the browser prefers.
func (p *pages) speak(r *http.Request) words {
	asked := r.URL.Query().Get("lang")
	for _, w := range p.words {
		if w.Tag == asked {
			return w
		}
	}
	_, i := language.MatchStrings(p.matcher, r.Header.Get("Accept-Language"))
	return p.words[i]
}

// write answers with the page and every header that keeps it to itself.
func (p *pages) write(w http.ResponseWriter, status int, pg page) error {
	pg.Style = p.style
	var b bytes.Buffer
	if err := p.template.ExecuteTemplate(&b, "page.html", pg); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	h.Set("Content-Language", pg.Lang)
	h.Set("Content-Security-Policy", p.csp)
	h.Set("Referrer-Policy", "no-referrer") // the URL is the permission to opt out
	h.Set("Cache-Control", "no-store")
	h.Set("X-Robots-Tag", "noindex, nofollow")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Vary", "Accept-Language")
	w.WriteHeader(status)
	_, err := w.Write(b.Bytes())
	return err
}

// fill puts the values into the words, in one pass: what a value says is not filled in again.
func fill(with *strings.Replacer, lines ...string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = with.Replace(l)
	}
	return out
}

func (w words) values(address, sender, topic string, at time.Time) *strings.Replacer {
	if address == "" {
		address = w.ThisAddress
	}
	return strings.NewReplacer("{address}", address, "{sender}", sender, "{topic}", topic, "{time}", at.UTC().Format(w.Time))
}

// mask shows an address to the one who knows it and hides it from others: j•••@c•••.example. "" for no address.
func mask(address string) string {
	i := strings.LastIndexByte(address, '@')
	if i <= 0 || i == len(address)-1 {
		return ""
	}
	local, domain := address[:i], address[i+1:]
	masked := first(local) + "•••@" + first(domain) + "•••"
	if i := strings.LastIndexByte(domain, '.'); i > 0 && domain[0] != '[' {
		masked += domain[i:]
	}
	return masked
}

func first(s string) string {
	_, n := utf8.DecodeRuneInString(s)
	return s[:n]
}
