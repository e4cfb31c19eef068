package integration

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

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

// redisCommand sends one inline command, which must be answered +OK.
func redisCommand(t *testing.T, addr, line string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "%s\r\n", line)
	if answer, err := bufio.NewReader(c).ReadString('\n'); err != nil || answer != "+OK\r\n" {
		t.Fatalf("%s is answered %q, %v", line, answer, err)
	}
}
