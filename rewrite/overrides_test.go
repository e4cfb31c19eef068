package rewrite

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"heed/policy"
)

func TestOverride(t *testing.T) {
	built := notices(t)
	english, err := noticeFiles.ReadFile("notices/en.yaml")
	if err != nil {
		t.Fatal(err)
	}
	own, err := built.Override(fstest.MapFS{
		"de.yaml":     {Data: []byte("label: Reklame # ein Wort\nobjection_heading: \"Ihr Recht: Widerspruch\"\nreason_topic: >\n  Thema dieser\n  Mail: {topic}.\n")},
		"en.yaml":     {Data: []byte("\n# nothing yet\n")},
		"tr.yaml":     {Data: []byte(strings.Replace(string(english), "language: en", "language: tr", 1))},
		"de.yaml.bak": {Data: []byte("][")},
		"README.md":   {Data: []byte("ours")},
		"..data":      {Mode: fs.ModeDir},
	}, "texts")
	if err != nil {
		t.Fatal(err)
	}
	in := input("label", "reason", "objection", "unsubscribe")
	in.Language, in.Topic = own.Language([]string{"de"}, nil), "Messen"
	in.Decision.Grounds.Consent = &policy.Consent{}
	got, err := own.Compose(in)
	if err != nil {
		t.Fatal(err)
	}
	checkTexts(t, got, []string{"Reklame", "Ihr Recht: Widerspruch", "Thema dieser Mail: Messen.", "Abmelden"}, []string{"Werbung", "Widerspruchsrecht"})
	if l := own.Language([]string{"tr-TR"}, nil); l != "tr" {
		t.Errorf("the added language is not chosen: %s", l)
	}
	in.Language = "de"
	if got, err = built.Compose(in); err != nil || !strings.Contains(got.Text, "Werbung") || built.byLanguage["tr"] != nil {
		t.Errorf("the built-in texts changed: %v\n%s", err, got.Text)
	}
}

// TestOverrideMistakes: every mistake is found, and named by file, line, key and remedy.
func TestOverrideMistakes(t *testing.T) {
	for _, tt := range []struct{ name, file, text, want string }{
		{"unknown key", "de.yaml", "lable: x", "texts/de.yaml:1: lable: is not a key of the notices"},
		{"unknown placeholder", "de.yaml", "\nbase_rate: \"{basename}\"", "texts/de.yaml:2: base_rate: has the placeholder {basename}, which there is not"},
		{"link dropped", "de.yaml", "unsubscribe: hier", "unsubscribe: lacks {unsubscribe_url}"},
		{"link of the objection dropped", "de.yaml", "objection: Sie dürfen widersprechen.", "objection: lacks {unsubscribe_url}"},
		{"name dropped", "de.yaml", "identity: \"Werbung.[ {postal_address}][ {contacts}][ {register}]\"", "identity: lacks {legal_name}"},
		{"address dropped", "de.yaml", "identity: \"Werbung von {legal_name}.[ {contacts}][ {register}]\"", "identity: lacks {postal_address}"},
		{"source dropped", "de.yaml", "art14_source: Quelle unbekannt.", "art14_source: lacks {source}"},
		{"authority may be dropped", "de.yaml", "art14_rights: Sie haben Rechte.", ""},
		{"date and place may be dropped", "de.yaml", "reason_consent: \"Sie haben bei {legal_name} eingewilligt und können widerrufen.\"", ""},
		{"value that may be missing, bare", "de.yaml", "base_rate: \"Frei. {authority}\"", "base_rate: would be left out as a whole where {authority} is not known"},
		{"value that may be missing, in brackets", "de.yaml", "base_rate: \"Frei.[ {authority}]\"", ""},
		{"name that falls away with another", "de.yaml", "identity: \"Werbung[ von {legal_name}, {register}].[ {postal_address}][ {contacts}]\"", "identity: would lose {legal_name} where {register} is not known"},
		{"date in a text", "de.yaml", "base_rate: \"[{day}]\"", "base_rate: has the placeholder {day}, which it cannot have"},
		{"name in a date", "de.yaml", "date: \"{day} {month} {year} {legal_name}\"", "date: has the placeholder {legal_name}, which it cannot have"},
		{"year dropped", "de.yaml", "date: \"{day} {month}\"", "date: lacks {year}"},
		{"placeholder in a heading", "de.yaml", "reason_heading: \"Post von {legal_name}\"", "reason_heading: has a placeholder, and is shown as it stands"},
		{"placeholder in a label", "de.yaml", "label: \"{topic}\"", "label: has a placeholder"},
		{"open bracket", "de.yaml", "base_rate: \"[ x {topic}\"", "base_rate: has a [ without its ]"},
		{"closed bracket", "de.yaml", "base_rate: \"x ]\"", "base_rate: has a ] without its ["},
		{"brackets in brackets", "de.yaml", "base_rate: \"[ x [{topic}]]\"", "base_rate: has brackets within brackets"},
		{"brackets around words", "de.yaml", "base_rate: \"[x]\"", "base_rate: has brackets without a placeholder"},
		{"open brace", "de.yaml", "base_rate: \"x {topic\"", "base_rate: has a { without its }"},
		{"closed brace", "de.yaml", "base_rate: \"x }\"", "base_rate: has a } without its {"},
		{"eleven months", "de.yaml", "months: [1, 2]", "months: is not a list of twelve months"},
		{"months are a text", "de.yaml", "months: Januar", "months: is not a list of twelve months"},
		{"month without a name", "de.yaml", "months: [a, b, c, d, e, f, g, h, i, j, k, \"\"]", "months: has a month, the 12., that is not a name"},
		{"empty", "de.yaml", "label: \"\"", "label: is empty"},
		{"null", "de.yaml", "label:", "label: is not a text"},
		{"number", "de.yaml", "label: 7", "label: is not a text; write it in quotes"},
		{"list", "de.yaml", "label: [a]", "label: is not a text"},
		{"too long", "de.yaml", "base_rate: " + strings.Repeat("ä", 2001), "base_rate: is longer than 2000 characters"},
		{"just not too long", "de.yaml", "base_rate: " + strings.Repeat("ä", 2000), ""},
		{"control character", "de.yaml", `label: "a\u0007"`, "label: has a control character"},
		{"bidi override", "de.yaml", `label: "a\u202eb"`, "label: has a control character or one that turns"},
		{"bidi isolate", "de.yaml", `label: "a\u2066b"`, "label: has a control character or one that turns"},
		{"not UTF-8", "de.yaml", "label: \xe4", "has a control character"},
		{"twice", "de.yaml", "label: a\nlabel: b", "texts/de.yaml:2: label: stands there twice"},
		{"other language", "de.yaml", "language: en", "language: is not the language that the file is named after; write de"},
		{"not YAML", "de.yaml", "label: \"a", "is not a list of keys and texts"},
		{"a list", "de.yaml", "- label", "is not a list of keys and texts"},
		{"too large", "de.yaml", "# " + strings.Repeat("x", maxTextFile), "cannot be read: it is too large"},
		{"added language, incomplete", "tr.yaml", "label: Reklam", "texts/tr.yaml: lacks months, date, label_cz"},
		{"named after no language", "german.yaml", "label: x", "is not named after a language"},
		{"named with a region", "de-AT.yaml", "label: x", "is not named after a language"},
		{"named in capitals", "DE.yaml", "label: x", "is not named after a language"},
		{"named .yml", "de.yml", "label: x", "is not read by this name"},
		{"named after either Norwegian", "no.yaml", "label: x", "call it nb.yaml"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := &Notices{byLanguage: map[string]*wording{"nb": {}}, byCountry: nil}
			for l, w := range notices(t).byLanguage {
				n.byLanguage[l] = w
			}
			got, err := n.Override(fstest.MapFS{tt.file: {Data: []byte(tt.text)}}, "texts")
			var mistakes TextMistakes
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want == "":
			case !errors.As(err, &mistakes) || got != nil:
				t.Fatalf("got %v", err)
			case len(mistakes) != 1 || !strings.Contains(err.Error(), tt.want) || mistakes[0].Remedy == "":
				t.Errorf("got %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestOverrideFolder(t *testing.T) {
	dir := t.TempDir()
	if _, err := notices(t).Override(os.DirFS(dir+"/none"), dir+"/none"); err == nil || !strings.Contains(err.Error(), dir+"/none: cannot be read: no such file or directory; ") {
		t.Errorf("no folder: %v", err)
	}
	if err := os.Mkdir(dir+"/de.yaml", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := notices(t).Override(os.DirFS(dir), dir); err == nil || !strings.Contains(err.Error(), "/de.yaml: cannot be read: it is not a file; ") {
		t.Errorf("a folder for a file: %v", err)
	}
	two := fstest.MapFS{"de.yaml": {Data: []byte("lable: x\nlabel: \"\"")}, "en.yaml": {Data: []byte("label: \"]\"")}}
	var mistakes TextMistakes
	if _, err := notices(t).Override(two, "texts"); !errors.As(err, &mistakes) || len(mistakes) != 3 {
		t.Errorf("not all mistakes at once: %v", err)
	}
}

func FuzzOverride(f *testing.F) {
	f.Add("label: x\nidentity: \"{legal_name}[, {postal_address}][{contacts}][{register}]\"")
	f.Add("base_rate: \"[{topic}] {unsubscribe_url}\"\nmonths: [a]")
	built := notices(f)
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > 4096 {
			return
		}
		n, err := built.Override(fstest.MapFS{"en.yaml": {Data: []byte(src)}}, "texts")
		if err != nil {
			return
		}
		in := input("identity", "label", "reason", "objection", "art14", "unsubscribe", "country")
		got, err := n.Compose(in)
		if err != nil {
			t.Fatal(err)
		}
		for _, must := range []string{"Acme Ltd", in.UnsubscribeURL} {
			if !strings.Contains(got.Text, must) || !strings.Contains(got.HTML, must) {
				t.Errorf("%q is lost:\n%s", must, got.Text)
			}
		}
	})
}
