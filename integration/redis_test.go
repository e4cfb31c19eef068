package integration

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisServer is a real redis-server with every acknowledged write on disk.
type redisServer struct {
	t    *testing.T
	addr string
	dir  string
	cmd  *exec.Cmd
}

func (r *redisServer) url() string { return "redis://" + r.addr + "/0" }

// startRedis starts one, or skips where there is none and CI does not insist.
func startRedis(t *testing.T) *redisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("redis-server is missing: run make install")
		}
		t.Skip("redis-server is not installed: run make install")
	}
	r := &redisServer{t: t, addr: freePort(t), dir: t.TempDir()}
	r.start()
	t.Cleanup(r.kill)
	return r
}

func (r *redisServer) start() {
	r.t.Helper()
	_, port, _ := net.SplitHostPort(r.addr)
	r.cmd = exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", r.dir, "--appendonly", "yes", "--appendfsync", "always", "--save", "")
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", r.addr); err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatal("redis-server does not answer")
		}
	}
}

// kill ends it as a crash would.
func (r *redisServer) kill() {
	if r.cmd.ProcessState == nil {
		r.cmd.Process.Kill()
		r.cmd.Wait()
	}
}

// timeScript does to one shard of the spool what time would: every lease ends and every copy is due, or those copies
// are due that are free.
const timeScript = `
local base, long = KEYS[1], string.rep('0', 18) .. '1'
for _, member in ipairs(redis.call('ZRANGE', base .. ':all', 0, -1)) do
	local id = string.sub(member, 20)
	local copy = base .. ':copy:' .. id
	local f = redis.call('HMGET', copy, 'lease', 'due', 'queue')
	if ARGV[1] == 'all' or f[1] == '' then
		redis.call('ZREM', base .. ':leased', f[1] .. id)
		redis.call('ZREM', base .. ':free:' .. f[3], f[2] .. id)
		redis.call('ZREM', base .. ':all', f[2] .. id)
		redis.call('HSET', copy, 'lease', '', 'due', long)
		redis.call('ZADD', base .. ':free:' .. f[3], 0, long .. id)
		redis.call('SADD', base .. ':queues', f[3])
		redis.call('ZADD', base .. ':all', 0, long .. id)
	end
end
return 1`

func redisTimePasses(t *testing.T, url, which string) {
	t.Helper()
	c := redisClient(t, url)
	defer c.Close()
	for shard := range 16 {
		if err := c.Eval(t.Context(), timeScript, []string{fmt.Sprintf("heed:{spool:%02d}", shard)}, which).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// redisClient is a client for what `state` names.
func redisClient(t *testing.T, url string) redis.UniversalClient {
	t.Helper()
	if list, ok := strings.CutPrefix(url, "redis+cluster://"); ok {
		return redis.NewClusterClient(&redis.ClusterOptions{Addrs: strings.Split(list, ",")})
	}
	if list, ok := strings.CutPrefix(url, "redis+sentinel://"); ok {
		sentinels, name, _ := strings.Cut(list, "/")
		return redis.NewFailoverClient(&redis.FailoverOptions{MasterName: name, SentinelAddrs: strings.Split(sentinels, ",")})
	}
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	return redis.NewClient(o)
}
