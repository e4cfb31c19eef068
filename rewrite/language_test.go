package rewrite

import "testing"

func TestLanguage(t *testing.T) {
	n := &Notices{byLanguage: map[string]*wording{}, byCountry: notices(t).byCountry}
	for _, l := range []string{"bg", "cs", "da", "de", "el", "en", "es", "et", "fi", "fr", "hr", "hu", "it", "lt", "lv", "mt", "nb", "nl", "pl", "pt", "ro", "sk", "sl", "sv"} {
		n.byLanguage[l] = &wording{}
	}
	tags := func(s ...string) []string { return s }
	for _, tt := range []struct {
		name, fixed string
		tags        []string
		countries   []string
		want        string
	}{
		{"nothing known", "auto", nil, nil, "en"},
		{"fixed", "de", tags("en", "fr"), tags("GB"), "de"},
		{"fixed with a region", "pt-BR", nil, nil, "pt"},
		{"fixed, Norwegian", "no", nil, nil, "nb"},
		{"auto is none", "auto", nil, tags("DE"), "de"},
		{"contact before Heed-Language before message", "auto", tags("de-AT", "fr", "en"), tags("GB"), "de"},
		{"Heed-Language before message", "auto", tags("", "fr", "en"), tags("GB"), "fr"},
		{"message before country", "auto", tags("", "", "DE_de"), tags("GB"), "de"},
		{"script", "auto", tags("el-Grek-GR"), nil, "el"},
		{"Norwegian", "auto", tags("no"), nil, "nb"},
		{"Nynorsk", "auto", tags("nn-NO"), nil, "nb"},
		{"Bokmål", "auto", tags("nb-NO"), nil, "nb"},
		{"Moldovan", "auto", tags("mo"), nil, "ro"},
		{"three letters", "auto", tags("deu"), nil, "de"},
		{"three letters, lacking", "auto", tags("tlh", "es"), nil, "es"},
		{"lacking, the next is taken", "auto", tags("zh-Hans", "", "it"), tags("DE"), "it"},
		{"lacking, the country's", "auto", tags("zh", "ja"), tags("PL"), "pl"},
		{"several, the first that is there", "auto", tags("", "", "zh, da, de"), tags("DE"), "da"},
		{"several, none is there", "auto", tags("zh, ja"), nil, "en"},
		{"weight", "auto", tags("sv;q=0.8"), nil, "sv"},
		{"no tag", "auto", tags("x-klingon", "i-default", "-", "*", "english", " "), tags("HU"), "hu"},
		{"no tag at all, long", "auto", tags("deutschsprachig-de"), nil, "en"},
		{"country in small letters", "auto", nil, tags("at"), "de"},
		{"Belgium", "auto", nil, tags("BE"), "nl"},
		{"Belgium, contact", "auto", tags("fr-BE"), tags("BE"), "fr"},
		{"Belgium, message", "auto", tags("", "", "de"), tags("BE"), "de"},
		{"Luxembourg", "auto", tags("lb"), tags("LU"), "fr"},
		{"Switzerland", "auto", nil, tags("CH"), "de"},
		{"Switzerland, contact", "auto", tags("it-CH"), tags("CH"), "it"},
		{"Switzerland, Romansh", "auto", tags("rm"), tags("CH"), "de"},
		{"Canada", "auto", nil, tags("CA"), "en"},
		{"Canada, Québec", "auto", tags("", "", "fr-CA"), tags("CA"), "fr"},
		{"Liechtenstein", "auto", nil, tags("LI"), "de"},
		{"Iceland", "auto", nil, tags("IS"), "en"},
		{"Australia", "auto", nil, tags("AU"), "en"},
		{"New Zealand", "auto", nil, tags("NZ"), "en"},
		{"Brazil", "auto", nil, tags("BR"), "pt"},
		{"Mexico", "auto", nil, tags("MX"), "es"},
		{"Japan", "auto", nil, tags("JP"), "en"},
		{"unknown country, then another", "auto", nil, tags("", "JP", "SK", "AT"), "sk"},
	} {
		if got := n.Language(tt.fixed, tt.tags, tt.countries); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}
