package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/text/language"
)

// languages are those that there are built-in notices in.
const languages = "bg cs da de el en es et fi fr hr hu it lt lv mt nb nl pl pt ro sk sl sv"

// Languages are those that there are built-in notices in, sorted.
func Languages() []string { return strings.Fields(languages) }

// checkNotices looks for what a notice cannot do without.
func (c *Config) checkNotices(r *report) {
	folder := !r.bad("policy.notices") && c.Policy.Notices != ""
	if folder {
		if info, err := os.Stat(c.Policy.Notices); err != nil {
			r.add("policy.notices", "cannot be read: "+cause(err).Error(), "name a folder that the gateway may read; relative paths start at the folder of this file")
		} else if !info.IsDir() {
			r.add("policy.notices", "is not a folder", "name the folder that holds XX.yaml")
		}
	}
	if l := c.Policy.Language; l != "auto" && !r.bad("policy.language") && !r.bad("policy.notices") && !slices.Contains(Languages(), inTexts(l)) {
		if _, err := os.Stat(filepath.Join(c.Policy.Notices, inTexts(l)+".yaml")); !folder || err != nil {
			r.add("policy.language", "is a language that there are no notices in", "write auto or one of "+strings.Join(Languages(), ", ")+", or put "+inTexts(l)+".yaml into policy.notices (docs/notices.md)")
		}
	}
	c.checkReachable(r)
}

// inTexts is the language of a tag as texts are named: without region, Norwegian as Bokmål.
func inTexts(tag string) string {
	t, err := language.Parse(tag)
	if err != nil {
		return tag
	}
	base, _ := t.Base()
	if b := base.String(); b != "no" && b != "nn" {
		return b
	}
	return "nb"
}

// checkReachable: whoever writes to people who gave it no address must say how it can be reached (GDPR Art. 14(1)(a)).
func (c *Config) checkReachable(r *report) {
	for i, s := range c.Senders {
		key := fmt.Sprintf("senders[%d].", i)
		if s.Contact != "" || s.Phone != "" || s.Website != "" || r.bad(key+"contact") || r.bad(key+"phone") || r.bad(key+"website") {
			continue
		}
		for k, a := range c.Accounts {
			if a.Assessment != "" && a.Sender == s.ID && a.Category != "transactional" && !r.bad(fmt.Sprintf("accounts[%d].assessment", k)) {
				r.add(key+"contact", "is missing, and so are phone and website: mail that rests on assessment "+shown(a.Assessment)+" must say how to reach the sender (GDPR Art. 14(1)(a))",
					"write the address that answers questions about data, like privacy@example.com")
				break
			}
		}
	}
}
