package integration

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"heed/smtp/smtptest"
)

var linkIn = regexp.MustCompile(`List-Unsubscribe: <(http[^>]+)>`)

// link sends marketing mail to a consented address and gives the opt-out link of what arrived.
func (g *gateway) link(t *testing.T, up *smtptest.Upstream, to string) string {
	t.Helper()
	id := unique("link") + "@acme.example"
	g.mustSubmit(t, "250", "crm", us, []string{to}, letter(id, to, ""))
	for _, m := range ofMessage(up.Messages(), id) {
		if found := linkIn.FindStringSubmatch(header(m)); found != nil {
			return found[1]
		}
	}
	t.Fatal("no opt-out link arrived")
	return ""
}

// oneClick posts as RFC 8058 says; 0 is no answer.
func oneClick(link string) int {
	client := http.Client{Timeout: wirePatience}
	r, err := client.Post(link, "application/x-www-form-urlencoded", strings.NewReader("List-Unsubscribe=One-Click"))
	if err != nil {
		return 0
	}
	defer r.Body.Close()
	io.Copy(io.Discard, r.Body)
	return r.StatusCode
}

// raw sends bytes and reads the status line and the rest until the end or the server's silence.
func raw(t *testing.T, addr, request string) (status, rest string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(wirePatience))
	go io.WriteString(c, request)
	in := bufio.NewReader(c)
	status, _ = in.ReadString('\n')
	b, _ := io.ReadAll(in)
	return strings.TrimSpace(status), string(b)
}

// TestHostileHTTP: both listeners answer what is none of theirs with a refusal that tells nothing, and live.
func TestHostileHTTP(t *testing.T) {
	t.Parallel()
	g, up := hostile(t)
	g.consented("k@spedition.de")
	link := g.link(t, up, "k@spedition.de")
	path := strings.TrimPrefix(link, "http://"+g.http)
	public := func(request string) (string, string) { return raw(t, g.http, request) }
	end := "\r\nHost: " + g.http + "\r\nConnection: close\r\n\r\n"

	var slow sync.WaitGroup
	for _, addr := range []string{g.http, g.admin} { // they take their time; the rest goes on meanwhile
		for _, begin := range []string{"", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 26\r\n\r\nList-Unsub"} {
			slow.Go(func() {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				io.WriteString(c, begin)
				c.SetReadDeadline(time.Now().Add(wirePatience))
				if _, err := io.ReadAll(c); err != nil {
					t.Errorf("%s after %q: %v, want it closed", addr, begin, err)
				}
			})
		}
	}
	for name, c := range map[string]struct{ request, want string }{
		"huge header":         {"GET " + path + " HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 1<<20) + "\r\n\r\n", "431"},
		"many headers":        {"GET " + path + " HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: y\r\n", 100_000) + "\r\n", "431"},
		"huge path":           {"GET /u/" + strings.Repeat("a", 1<<20) + " HTTP/1.1" + end, "431"},
		"long path":           {"GET /u/" + strings.Repeat("a", 8000) + " HTTP/1.1" + end, "404"},
		"OPTIONS":             {"OPTIONS " + path + " HTTP/1.1" + end, "405"},
		"OPTIONS *":           {"OPTIONS * HTTP/1.1" + end, "405"},
		"PUT":                 {"PUT " + path + " HTTP/1.1" + end, "405"},
		"DELETE":              {"DELETE " + path + " HTTP/1.1" + end, "405"},
		"TRACE":               {"TRACE " + path + " HTTP/1.1" + end, "405"},
		"CONNECT":             {"CONNECT " + g.admin + " HTTP/1.1" + end, "405"},
		"method of garbage":   {strings.Repeat("X", 1000) + " / HTTP/1.1" + end, "405"},
		"no Host":             {"GET " + path + " HTTP/1.1\r\nConnection: close\r\n\r\n", "400"},
		"two Hosts":           {"GET " + path + " HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"},
		"another's Host":      {"GET " + path + " HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: evil.example\r\nConnection: close\r\n\r\n", "200"},
		"Host with a path":    {"GET " + path + " HTTP/1.1\r\nHost: evil.example/x\"><b>\r\nConnection: close\r\n\r\n", "400"},
		"absolute URL":        {"GET http://evil.example" + path + " HTTP/1.1" + end, "200"},
		"HEAD":                {"HEAD " + path + " HTTP/1.1" + end, "200"},
		"dots":                {"GET /u/../../../etc/passwd HTTP/1.1" + end, "404"},
		"encoded dots":        {"GET /u/%2e%2e/%2e%2e/etc/passwd HTTP/1.1" + end, "404"},
		"NUL":                 {"GET /u/%00 HTTP/1.1" + end, "404"},
		"double slash":        {"GET //evil.example/u/x HTTP/1.1" + end, "404"},
		"no token":            {"GET /u/ HTTP/1.1" + end, "404"},
		"half a token":        {"GET " + path[:len(path)-10] + " HTTP/1.1" + end, "404"},
		"token changed":       {"GET " + path[:20] + "AAAA" + path[24:] + " HTTP/1.1" + end, "404"},
		"post to no token":    {"POST /u/x HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 26\r\nConnection: close\r\n\r\nList-Unsubscribe=One-Click", "404"},
		"post of something":   {"POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 5\r\nConnection: close\r\n\r\nx=y&z", "400"},
		"post of no form":     {"POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}", "400"},
		"bad multipart":       {"POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 3\r\nConnection: close\r\n\r\n--b", "400"},
		"huge body":           {"POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 104857600\r\n\r\n" + strings.Repeat("x", 1<<20), "400"},
		"endless chunks":      {"POST " + path + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("10\r\n0123456789abcdef\r\n", 50_000), "400"},
		"smuggled by lengths": {"POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nx=y&z", "400"},
		"not HTTP":            {"EHLO x\r\nMAIL FROM:<a@b>\r\n\r\n", "400"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, rest := public(c.request)
			if !strings.HasPrefix(status, "HTTP/1.1 "+c.want) && !strings.HasPrefix(status, "HTTP/1.0 "+c.want) {
				t.Errorf("answered %q, want %s", status, c.want)
			}
			if strings.Contains(rest, "evil") || strings.Contains(rest, "goroutine") || strings.Contains(rest, "k@spedition.de") {
				t.Errorf("the answer has what it must not: %.2000s", rest)
			}
		})
	}
	for name, c := range map[string]struct{ request, want string }{
		"no token":      {"GET /metrics HTTP/1.1" + end, "401"},
		"wrong token":   {"GET /metrics HTTP/1.1\r\nAuthorization: Bearer wrong" + end, "401"},
		"empty token":   {"GET /metrics HTTP/1.1\r\nAuthorization: Bearer " + end, "401"},
		"basic":         {"GET /metrics HTTP/1.1\r\nAuthorization: Basic YWRtaW4tc2VjcmV0" + end, "401"},
		"long token":    {"GET /metrics HTTP/1.1\r\nAuthorization: Bearer " + strings.Repeat("a", 8000) + end, "401"},
		"dots":          {"GET /healthz/../metrics HTTP/1.1" + end, "401"},
		"double slash":  {"GET //metrics HTTP/1.1" + end, "401"},
		"put":           {"PUT /readyz HTTP/1.1" + end, "405"},
		"huge header":   {"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 1<<20) + "\r\n\r\n", "431"},
		"no JSON":       {"POST /api/v1/check HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin-secret\r\nContent-Type: application/json\r\nContent-Length: 1\r\nConnection: close\r\n\r\n{", "400"},
		"deep JSON":     {"POST /api/v1/check HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin-secret\r\nContent-Type: application/json\r\nContent-Length: 500000\r\nConnection: close\r\n\r\n" + strings.Repeat("[", 500_000), "400"},
		"100 MB":        {"POST /api/v1/check HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin-secret\r\nContent-Type: application/json\r\nContent-Length: 104857600\r\nConnection: close\r\n\r\n{\"account\":\"" + strings.Repeat("x", 10<<20), "4"},
		"many headers":  {"GET /healthz HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: y\r\n", 100_000) + "\r\n", "431"},
		"readyz a HEAD": {"HEAD /readyz HTTP/1.1" + end, "200"},
	} {
		t.Run("admin "+name, func(t *testing.T) {
			t.Parallel()
			if status, rest := raw(t, g.admin, c.request); !strings.HasPrefix(status, "HTTP/1.1 "+c.want) {
				t.Errorf("answered %q, want %s; %.300s", status, c.want, rest)
			}
		})
	}
	t.Cleanup(func() {
		slow.Wait()
		if out, code := g.run("optouts", "check", "k@spedition.de"); code != 0 {
			t.Errorf("none of these was an opt-out, yet: %s", out)
		}
		if got := oneClick(link); got != http.StatusOK {
			t.Errorf("a one-click is answered %d after all this", got)
		}
		if out, code := g.run("optouts", "check", "k@spedition.de"); code != 1 {
			t.Errorf("the opt-out is not there: %s", out)
		}
	})
}
