package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"heed/smtp/smtptest"
)

// TestImportWhileServing: other processes fill the same state while mail flows; no mail hears of it.
func TestImportWhileServing(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, state []setting) {
		up := smtptest.New(t, smtptest.Script{})
		g := newGateway(t, append(state, setting{"UPSTREAM", up.Addr()})...).start()
		const to = "a@spedition.example"
		g.consented(to)
		var contacts, optOuts strings.Builder
		contacts.WriteString("email,country,collected_by,consent,consent_at\n")
		for i := range 20_000 {
			fmt.Fprintf(&contacts, "p%d@spedition.example,DE,acme,double,2025-01-01\n", i)
			if i < 300 {
				fmt.Fprintf(&optOuts, "out%d@spedition.example\n", i)
			}
		}
		dir := t.TempDir()
		ended := make(chan string, 2)
		for _, args := range [][]string{{"contacts", contacts.String()}, {"optouts", optOuts.String()}} {
			file := filepath.Join(dir, args[0])
			if err := os.WriteFile(file, []byte(args[1]), 0o600); err != nil {
				t.Fatal(err)
			}
			go func() {
				out, err := exec.Command(binary, "--config", g.config, args[0], "import", file).CombinedOutput()
				if err != nil {
					out = append(out, "FAILED: "+err.Error()...)
				}
				ended <- string(out)
			}()
		}
		m := g.tool(t, "crm")
		said, mails := "", 0
		for open := 2; open > 0; mails++ {
			m.sent(plainMail(to, fmt.Sprintf("mail %d", mails)), to)
			select {
			case out := <-ended:
				said += out
				open--
			default:
			}
		}
		wantAll(t, said, "20000 rows imported, 0 rejected", "300 opt-outs added, 0 known already, 0 rejected")
		if strings.Contains(said, "FAILED") {
			t.Error(said)
		}
		t.Logf("%d mails meanwhile", mails)
		m.blocked(plainMail("out299@spedition.example", "x"), "out299@spedition.example", "optout.all")
		m.sent(plainMail("p19999@spedition.example", "x"), "p19999@spedition.example")
	})
}
