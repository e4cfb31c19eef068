package rewrite

import (
	_ "embed"
	"strings"
)

//go:embed tracking.tsv
var trackingTable string

// linkSwitches are the attributes by which the trackers of the ESPs in tracking.tsv leave a link alone; each is nothing
// to the others.
var linkSwitches = func() string {
	var b strings.Builder
	for _, t := range trackers(trackingTable) {
		if t.attribute != "" {
			b.WriteString(" " + t.attribute)
		}
	}
	return b.String()
}()

type tracker struct{ attribute, text, hosts string }

func trackers(table string) (out []tracker) {
	for line := range strings.Lines(table) {
		if f := strings.Split(strings.TrimRight(line, "\r\n"), "\t"); len(f) == 5 && !strings.HasPrefix(line, "#") {
			out = append(out, tracker{f[1], f[2], f[3]})
		}
	}
	return out
}

// TextSwitch is what has to stand after a bare link in plain text, so that the tracker of the ESP whose server host is
// leaves it alone; "" where nothing has to.
func TextSwitch(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, t := range trackers(trackingTable) {
		for _, h := range strings.Fields(t.hosts) {
			if host == h || strings.HasSuffix(host, "."+h) {
				return t.text
			}
		}
	}
	return ""
}
