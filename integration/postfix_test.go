package integration

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
)

// postfixMain leaves header fields alone: what differs at the next hop is then the gateway's doing.
const postfixMain = `compatibility_level = 3.6
queue_directory = @DIR@/queue
data_directory = @DIR@/data
myhostname = mta.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = loopback-only
inet_protocols = ipv4
relayhost = [127.0.0.1]:@SINK@
smtp_dns_support_level = disabled
alias_maps =
alias_database =
local_header_rewrite_clients =
message_drop_headers =
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = check_recipient_access inline:{ {gone@spedition.example = 550 5.1.1 nobody of that name} }, check_policy_service inet:@POLICY@
smtpd_tls_security_level = may
smtpd_tls_cert_file = @CERT@
smtpd_tls_key_file = @KEY@
maillog_file = @DIR@/log
maillog_file_prefixes = @DIR@
`

// postfixMaster is Debian's master.cf without what is not needed, and without chroot.
const postfixMaster = `@ADDRESS@ inet n - n - - smtpd
postlog  unix-dgram n - n - 1 postlogd
cleanup  unix n - n - 0 cleanup
qmgr     unix n - n 300 1 qmgr
rewrite  unix - - n - - trivial-rewrite
bounce   unix - - n - 0 bounce
defer    unix - - n - 0 bounce
trace    unix - - n - 0 bounce
verify   unix - - n - 1 verify
proxymap unix - - n - - proxymap
tlsmgr   unix - - n 1000? 1 tlsmgr
smtp     unix - - n - - smtp
error    unix - - n - - error
retry    unix - - n - - error
anvil    unix - - n - 1 anvil
scache   unix - - n - 1 scache
`

// startPostfix runs Postfix with a configuration, queue and data of its own.
func startPostfix(t *testing.T) *mta {
	t.Helper()
	uid, gid := asRoot(t, "postfix")
	postfix := program(t, "postfix")
	sink, dir := newSink(t), openDir(t)
	policy, open := greylist(t)
	m := &mta{
		address: freePort(t), sink: sink, open: open, taken: regexp.MustCompile(`^250 2\.0\.0 Ok: ([0-9]+ bytes )?queued as `),
		refusal: "550 5.1.1 <gone@spedition.example>: Recipient address rejected: nobody of that name",
	}
	var key string
	m.ca, key = certificate(t)
	for _, d := range []string{"etc", "queue", "data"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(filepath.Join(dir, "data"), uid, gid); err != nil {
		t.Fatal(err)
	}
	_, next, _ := net.SplitHostPort(sink.Addr())
	fill := strings.NewReplacer("@DIR@", dir, "@SINK@", next, "@POLICY@", policy, "@CERT@", m.ca, "@KEY@", key, "@ADDRESS@", m.address)
	for name, text := range map[string]string{"main.cf": postfixMain, "master.cf": postfixMaster} {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(fill.Replace(text)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	etc := filepath.Join(dir, "etc")
	launch(t, exec.Command(postfix, "-c", etc, "start-fg"), m.address, filepath.Join(dir, "log"), func() {
		if out, err := exec.Command(postfix, "-c", etc, "stop").CombinedOutput(); err != nil {
			t.Errorf("postfix stop: %v\n%s", err, out)
		}
	})
	return m
}

// greylist is a policy server (Postfix's SMTPD_POLICY_README) that puts grey@spedition.example off until it is opened.
func greylist(t *testing.T) (address string, open func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var opened atomic.Bool
	serve := func(c net.Conn) {
		defer c.Close()
		grey := false
		for lines := bufio.NewScanner(c); lines.Scan(); {
			switch line := lines.Text(); {
			case line == "recipient=grey@spedition.example":
				grey = true
			case line == "" && grey && !opened.Load():
				fmt.Fprint(c, "action=defer 4.7.1 greylisted\n\n")
				grey = false
			case line == "":
				fmt.Fprint(c, "action=dunno\n\n")
				grey = false
			}
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return l.Addr().String(), func() { opened.Store(true) }
}
