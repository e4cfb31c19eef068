package integration

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// eximConfig hands everything on to the sink, the many in runs of the queue, which cost less than a process for each.
// AUTH is offered over TLS only.
const eximConfig = `primary_hostname = mta.test
exim_path = @DIR@/exim4
spool_directory = @DIR@/spool
log_file_path = @DIR@/log/%slog
log_selector = -queue_run
local_interfaces = 127.0.0.1.@PORT@
keep_environment =
rfc1413_query_timeout = 0s
smtp_accept_queue_per_connection = 0
chunking_advertise_hosts = *
dsn_advertise_hosts = *
return_path_remove = false
envelope_to_remove = false
delivery_date_remove = false
tls_advertise_hosts = *
tls_certificate = @DIR@/cert.pem
tls_privatekey = @DIR@/key.pem
acl_smtp_rcpt = rcpt
begin acl
rcpt:
  deny recipients = gone@spedition.example
       message = 5.1.1 nobody of that name
  defer recipients = grey@spedition.example
       condition = ${if !exists{@DIR@/open}}
       message = 4.7.1 greylisted
  accept recipients = ^p[0-9]+@
         control = queue
  accept
begin routers
all:
  driver = manualroute
  route_list = * 127.0.0.1::@SINK@
  self = send
  transport = next
begin transports
next:
  driver = smtp
  allow_localhost
  hosts_avoid_tls = *
  connection_max_messages = 1
  message_linelength_limit = 1000000
begin retry
* * F,1h,2s
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_advertise_condition = ${if def:tls_in_cipher}
  server_prompts = :
  server_condition = ${if and{{eq{$auth2}{gw}}{eq{$auth3}{secret}}}}
  server_set_id = $auth2
`

// startExim runs Exim under its own user, so that it has no use for being setuid root. make install brings the binary.
func startExim(t *testing.T) *mta {
	t.Helper()
	uid, gid := asRoot(t, "Debian-exim")
	program, err := os.ReadFile(".exim/exim4")
	if err != nil {
		missing(t, "Exim (integration/.exim)")
	}
	sink, dir := newSink(t), openDir(t)
	m := &mta{
		address: freePort(t), sink: sink, taken: regexp.MustCompile(`^250 2\.0\.0 ( [0-9]+ byte chunk, total [0-9]+\n2\.0\.0 )?OK id=`), refusal: "550 5.1.1 nobody of that name", login: true,
		open: func() {
			if err := os.WriteFile(filepath.Join(dir, "open"), nil, 0o644); err != nil {
				t.Error(err)
			}
		},
	}
	cert, key := certificate(t)
	m.ca = filepath.Join(dir, "cert.pem")
	_, port, _ := net.SplitHostPort(m.address)
	_, next, _ := net.SplitHostPort(sink.Addr())
	put := func(name string, mode os.FileMode, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, mode); err != nil {
			t.Fatal(err)
		}
	}
	put("exim4", 0o755, program)
	put("exim.conf", 0o644, []byte(strings.NewReplacer("@DIR@", dir, "@PORT@", port, "@SINK@", next).Replace(eximConfig)))
	for name, path := range map[string]string{"cert.pem": cert, "key.pem": key} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		put(name, 0o644, b)
	}
	for _, d := range []string{"spool", "log"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(filepath.Join(dir, d), uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(filepath.Join(dir, "exim4"), "-C", filepath.Join(dir, "exim.conf"), "-bdf", "-q1s")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	launch(t, cmd, m.address, filepath.Join(dir, "log", "mainlog"), func() { cmd.Process.Signal(syscall.SIGTERM) })
	return m
}
