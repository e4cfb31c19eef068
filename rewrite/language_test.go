package rewrite

import "testing"

func TestLanguage(t *testing.T) {
	n := &Notices{byLanguage: map[string]*wording{}, byCountry: notices(t).byCountry}
	for _, l := range []string{"bg", "cs", "da", "de", "el", "en", "es", "et", "fi", "fr", "hr", "hu", "it", "lt", "lv", "mt", "nb", "nl", "pl", "pt", "ro", "sk", "sl", "sv"} {
		n.byLanguage[l] = &wording{}
	}
	tags := func(s ...string) []string { return s }
	for _, tt := range []struct {
		name      string
		tags      []string
		countries []string
		want      string
	}{
		{"nothing known", nil, nil, "en"},
		{"region", tags("pt-BR"), nil, "pt"},
		{"auto is none", tags("auto"), tags("DE"), "de"},
		{"contact before Heed-Language before message", tags("de-AT", "fr", "en"), tags("GB"), "de"},
		{"Heed-Language before message", tags("", "fr", "en"), tags("GB"), "fr"},
		{"message before country", tags("", "", "DE_de"), tags("GB"), "de"},
		{"script", tags("el-Grek-GR"), nil, "el"},
		{"Norwegian", tags("no"), nil, "nb"},
		{"Nynorsk", tags("nn-NO"), nil, "nb"},
		{"Bokmål", tags("nb-NO"), nil, "nb"},
		{"Moldovan", tags("mo"), nil, "ro"},
		{"three letters", tags("deu"), nil, "de"},
		{"three letters, lacking", tags("tlh", "es"), nil, "es"},
		{"lacking, the next is taken", tags("zh-Hans", "", "it"), tags("DE"), "it"},
		{"lacking, the country's", tags("zh", "ja"), tags("PL"), "pl"},
		{"several, the first that is there", tags("", "", "zh, da, de"), tags("DE"), "da"},
		{"several, none is there", tags("zh, ja"), nil, "en"},
		{"weight", tags("sv;q=0.8"), nil, "sv"},
		{"no tag", tags("x-klingon", "i-default", "-", "*", "english", " "), tags("HU"), "hu"},
		{"no tag at all, long", tags("deutschsprachig-de"), nil, "en"},
		{"country in small letters", nil, tags("at"), "de"},
		{"Belgium", nil, tags("BE"), "nl"},
		{"Belgium, contact", tags("fr-BE"), tags("BE"), "fr"},
		{"Belgium, message", tags("", "", "de"), tags("BE"), "de"},
		{"Luxembourg", tags("lb"), tags("LU"), "fr"},
		{"Switzerland", nil, tags("CH"), "de"},
		{"Switzerland, contact", tags("it-CH"), tags("CH"), "it"},
		{"Switzerland, Romansh", tags("rm"), tags("CH"), "de"},
		{"Canada", nil, tags("CA"), "en"},
		{"Canada, Québec", tags("", "", "fr-CA"), tags("CA"), "fr"},
		{"Liechtenstein", nil, tags("LI"), "de"},
		{"Iceland", nil, tags("IS"), "en"},
		{"Australia", nil, tags("AU"), "en"},
		{"New Zealand", nil, tags("NZ"), "en"},
		{"Brazil", nil, tags("BR"), "pt"},
		{"Mexico", nil, tags("MX"), "es"},
		{"Japan", nil, tags("JP"), "en"},
		{"unknown country, then another", nil, tags("", "JP", "SK", "AT"), "sk"},
	} {
		if got := n.Language(tt.tags, tt.countries); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}
