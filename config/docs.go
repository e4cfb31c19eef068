package config

import (
	"crypto/rand"
	"fmt"
	"reflect"
	"strings"
)

// Secrets are what a starter file must not have in common with any other.
type Secrets struct{ AccountPassword, AdminToken string }

// NewSecrets makes secrets of 130 random bits.
func NewSecrets() Secrets {
	return Secrets{AccountPassword: rand.Text(), AdminToken: rand.Text()}
}

const starterHead = `# gateway.yaml of Heed. Check it with: gateway config check
# A key behind a # has the value shown; remove the # to change it. ${NAME} takes a value from the environment, file:PATH from a file.
# Keep this file from other users: it holds secrets. docs/configuration.md has every key.

`

// starter is what the starter file sets beyond the defaults: good for a first try on one machine.
const starter = `
public_url: http://127.0.0.1:8025
upstreams: [{name: esp, url: "smtp://127.0.0.1:2526"}]
senders: [{id: acme, name: Acme Ltd, postal_address: "1 High Street, London EC1A 1AA, United Kingdom", country: GB,
  contact: privacy@acme.example, website: "https://acme.example", privacy_url: "https://acme.example/privacy", domains: [acme.example]}]
accounts: [{name: crm, password: "${PASSWORD}", topic: newsletter, product: crm}]
admin: {token: "${TOKEN}"}
`

// Starter is a gateway.yaml to begin with: every key that is supported, documented, those with their default commented
// out. Load takes it as it is.
func Starter(s Secrets) []byte {
	c, err := Parse("starter", []byte(starter), func(name string) (string, bool) {
		v, ok := map[string]string{"PASSWORD": s.AccountPassword, "TOKEN": s.AdminToken}[name]
		return v, ok
	})
	if err != nil {
		panic("config: the starter file has mistakes: " + err.Error())
	}
	c.Hostname = ""
	p := &printer{explain: true}
	p.mapping(reflect.ValueOf(*c), "", "")
	return []byte(starterHead + p.b.String())
}

const referenceHead = `# Configuration

<!-- Made from the config package by: go test ./config -update. Change the text there. -->

The gateway reads one YAML file: ` + "`--config FILE`, else `HEED_CONFIG`, else `gateway.yaml`" + `. ` + "`gateway config init`" + ` writes a
commented starter file, ` + "`config check`" + ` validates, ` + "`config print`" + ` shows the effective values with secrets as ` + "`***`" + `.

- Every mistake is reported at once, with file and line, key, value and remedy. An unknown key is a mistake. A key that asks
  for something not built yet answers ` + "`not supported yet`" + `; it is never ignored.
- ` + "`${NAME}`" + ` takes a value from the environment, anywhere in a value; a variable that is not set is a mistake. ` + "`$${`" + ` stands for
  ` + "`${`" + ` itself. A ` + "`$`" + ` without a brace is itself, so hashes need no care. Within ` + "`{ }` and `[ ]`" + ` put it in quotes.
- ` + "`file:PATH`" + ` takes a value from a file, without the line end, for the keys marked **file**. Relative paths, here and everywhere,
  start at the folder of gateway.yaml: a command run elsewhere finds the same keys and state.
- Times have a unit: ` + "`500ms`, `30s`, `5m`, `48h`" + `. Sizes too: ` + "`512KiB`, `25MiB`, `10GiB`" + `. Networks are ` + "`10.1.0.0/16`" + `; one address
  alone is itself. A key without a value counts as left out.
- Names and ids are of letters, digits, dots, hyphens and underscores. Topics and products may have any printable characters.
  A sender's id and a topic are at most 32 bytes together: both are sealed into each opt-out link.
- YAML anchors and aliases work; merge keys (` + "`<<`" + `), tags and several documents do not.

The least that works:

` + "```yaml" + `
public_url: https://opt.acme.example
upstreams: [{name: esp, url: smtp+starttls://smtp.esp.example:587, username: apikey, password: "${ESP_PASSWORD}"}]
senders: [{id: acme, name: Acme Ltd, postal_address: "1 High Street, London EC1A 1AA", country: GB, domains: [acme.example]}]
accounts: [{name: crm, password: "${CRM_PASSWORD}", topic: newsletter, product: crm}]
` + "```" + `

## Keys
`

// Reference is docs/configuration.md, made from the fields' documentation.
func Reference() []byte {
	var b strings.Builder
	b.WriteString(referenceHead)
	section(&b, reflect.TypeFor[Config](), "")
	b.WriteString("\n## A starter file\n\nAs `gateway config init` writes it, with secrets of its own:\n\n```yaml\n")
	b.Write(Starter(Secrets{AccountPassword: "made-at-random", AdminToken: "made-at-random-too"}))
	b.WriteString("```\n")
	return []byte(b.String())
}

// section writes the table of one mapping, and then the sections of those within it.
func section(b *strings.Builder, t reflect.Type, path string) {
	b.WriteString("\n| key | default | meaning |\n|---|---|---|\n")
	for i := range t.NumField() {
		f := fieldOf(t.Field(i))
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", f.key, defaultShown(f, t.Field(i).Type), meaning(f, t.Field(i).Type))
	}
	for i := range t.NumField() {
		f, inner := fieldOf(t.Field(i)), t.Field(i).Type
		key := join(path, f.key)
		if inner.Kind() == reflect.Slice {
			inner, key = inner.Elem(), key+"[]"
		}
		if nested(reflect.New(inner).Elem()) {
			fmt.Fprintf(b, "\n### %s\n\n%s\n", key, f.doc)
			section(b, inner, key)
		}
	}
}

// defaultShown is what the reference says of a key left out.
func defaultShown(f field, t reflect.Type) string {
	switch {
	case nested(reflect.New(t).Elem()):
		return "below"
	case f.is["required"] && f.def == "":
		return "**required**"
	case t.Kind() == reflect.Slice:
		return "`[" + f.def + "]`"
	case t.Kind() == reflect.Map:
		return "`{}`"
	case f.def != "":
		return "`" + f.def + "`"
	case f.hasDefault || f.hasBuilt:
		return "empty"
	}
	return "see meaning"
}

func meaning(f field, t reflect.Type) string {
	s := strings.ReplaceAll(f.doc, "|", `\|`)
	if f.one != "" {
		s = "`" + strings.ReplaceAll(f.one, "|", "` `") + "`. " + s
	}
	if f.is["file"] {
		s += " **file**"
	}
	if t == reflect.TypeFor[Later]() || f.hasBuilt {
		s += " **Not supported yet**"
		if f.built != "" {
			s += ": only `" + f.built + "`"
		}
		s += "."
	}
	return s
}
