package main

import (
	"strings"
	"testing"

	"heed/config"
)

// A login that would have to cross a network in plain text is refused: whoever set it up hears so at start.
func TestWarningWherePassedLoginsNeedTLS(t *testing.T) {
	for _, tt := range []struct {
		auth, listen string
		want         bool
	}{{"pass", "0.0.0.0:2525", true}, {"pass", "127.0.0.1:2525", false}, {"own", "0.0.0.0:2525", false}} {
		c := &config.Config{Accounts: []config.Account{{Name: "crm", Auth: tt.auth}}, Listen: config.Listen{SMTP: []string{tt.listen}}}
		if got := strings.Contains(strings.Join(warnings(c), "\n"), "nobody can log in there"); got != tt.want {
			t.Errorf("auth: %s on %s: warned %t", tt.auth, tt.listen, got)
		}
	}
}
