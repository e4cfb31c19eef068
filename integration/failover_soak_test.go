//go:build soak

package integration

import "testing"

func TestSoakSentinelFailover(t *testing.T) {
	failoverUnderLoad(t, redisSets["sentinel"](t, silence), 100)
}

func TestSoakClusterFailover(t *testing.T) {
	failoverUnderLoad(t, redisSets["cluster"](t, silence), 100)
}
