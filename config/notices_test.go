package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNoticesLanguage: a fixed language is one that there are texts in, the operator's own included.
func TestNoticesLanguage(t *testing.T) {
	src, err := os.ReadFile("testdata/minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "gateway.yaml")
	if err := os.Mkdir(filepath.Join(dir, "texts"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "texts/tr.yaml"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, policy, wrong string }{
		{"left out", "{}", ""},
		{"auto", "{language: auto}", ""},
		{"built in", "{language: sk}", ""},
		{"with a region", "{language: pt-BR}", ""},
		{"Norwegian", "{language: \"no\"}", ""},
		{"Nynorsk", "{language: nn-NO}", ""},
		{"lacking", "{language: tr}", "policy.language"},
		{"lacking in the folder too", "{language: ja, notices: texts}", "policy.language"},
		{"in the folder", "{language: tr, notices: texts}", ""},
		{"in the folder, with a region", "{language: tr-TR, notices: ./texts/}", ""},
		{"no such folder", "{notices: text}", "policy.notices"},
	} {
		if err := os.WriteFile(file, append(src, "\npolicy: "+tt.policy+"\n"...), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(file, testEnv)
		switch {
		case tt.wrong == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.wrong != "" && (err == nil || len(mistakes(t, err)) != 1 || mistakes(t, err)[0].Key != tt.wrong):
			t.Errorf("%s: got %v, want a mistake at %s", tt.name, err, tt.wrong)
		case err == nil && strings.Contains(tt.policy, "texts") && c.Policy.Notices != filepath.Join(dir, "texts"):
			t.Errorf("%s: folder %s", tt.name, c.Policy.Notices)
		}
	}
}
