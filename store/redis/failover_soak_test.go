//go:build soak

package redis_test

import (
	"math/rand/v2"
	"testing"
)

func TestSoakSentinel(t *testing.T) { failover(t, sets["sentinel"](t, silence), many(60)) }

func TestSoakCluster(t *testing.T) { failover(t, sets["cluster"](t, silence), many(60)) }

// many rounds, killed or hung at random.
func many(n int) (rounds []string) {
	for range n {
		rounds = append(rounds, []string{"killed", "hung"}[rand.IntN(2)])
	}
	return rounds
}
