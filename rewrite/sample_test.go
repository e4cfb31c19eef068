package rewrite

import (
	"iter"
	"maps"
	"testing"
)

func mapsKeys[K comparable, V any](m map[K]V) iter.Seq[K] { return maps.Keys(m) }

func sample(t testing.TB, language, name string) Treatment {
	t.Helper()
	text := "This is advertising from Acme Ltd, 1 High Street, London.\n\nUnsubscribe: https://opt.acme.example/u/tok\nIt is free and takes effect at once."
	html := `<div style="font-size:13px"><p>This is advertising from <b>Acme Ltd</b>, 1 High Street, London.</p><p>Unsubscribe: <a href="https://opt.acme.example/u/tok">here</a>. It is free and takes effect at once.</p></div>`
	if language == "de" {
		text = "Dies ist Werbung von Bräuer & Söhne GmbH, Straße 1.\n\nhttps://opt.acme.example/u/tok\nDie Abmeldung wirkt sofort."
		html = `<div style="font-size:13px"><p>Dies ist Werbung von Bräuer &amp; Söhne GmbH, Straße 1. <a href="https://opt.acme.example/u/tok">hier</a> wirkt sofort.</p></div>`
	}
	return Treatment{Marketing: true, Received: "from crm ([127.0.0.1]) by gw.acme.example with ESMTP id 0123456789abcdef; Mon, 23 Nov 2026 10:00:00 +0000",
		Unsubscribe: "https://opt.acme.example/u/tok", ListID: `"News" <news.acme.acme.example>`, Notice: Notice{text, html}}
}
