package rewrite

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/language"
	"golang.org/x/text/language/display"
)

// TestNoticesPage holds the tables of docs/notices.md to the texts.
func TestNoticesPage(t *testing.T) {
	const file = "../docs/notices.md"
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n := notices(t)
	got := between(t, string(page), "languages", languageTable(n))
	got = between(t, got, "keys", keyTable(n))
	if *updateNotices {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got != string(page) {
		t.Errorf("%s is not what the texts say: go test ./rewrite -run TestNoticesPage -update-notices", file)
	}
}

func between(t *testing.T, page, name, table string) string {
	t.Helper()
	before, rest, ok := strings.Cut(page, "<!-- "+name+" -->\n")
	_, after, ok2 := strings.Cut(rest, "<!-- end -->")
	if !ok || !ok2 {
		t.Fatalf("no place for the table of %s", name)
	}
	return before + "<!-- " + name + " -->\n" + table + "<!-- end -->" + after
}

func languageTable(n *Notices) string {
	var b strings.Builder
	b.WriteString("| tag | language | reviewed by a native speaker |\n|---|---|---|\n")
	for _, l := range n.Languages() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", l, display.English.Languages().Name(language.MustParse(l)), n.byLanguage[l].NativeReview)
	}
	return b.String()
}

func keyTable(n *Notices) string {
	var b strings.Builder
	b.WriteString("| key | must have | English |\n|---|---|---|\n")
	en := n.byLanguage["en"]
	fmt.Fprintf(&b, "| `months` | twelve names | %s, … |\n", strings.Join(en.Months[:2], ", "))
	for key, text := range en.texts() {
		all, _ := text.placeholders()
		var names []string
		for _, v := range all {
			name := "`{" + valueNames[v] + "}`"
			if slices.Contains(mayBeDropped, v) {
				name = "*" + name + "*"
			}
			names = append(names, name)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", key, strings.Join(names, " "), strings.ReplaceAll(text.raw, "|", `\|`))
	}
	return b.String()
}
