# Everything a developer needs; `make` alone says what there is. GNU make and bash.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(or $(shell git describe --tags --always --dirty 2>/dev/null),dev)
COMMIT  ?= $(or $(shell git rev-parse --short=12 HEAD 2>/dev/null),unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)

TIMEOUT    ?= 15m
FUZZTIME   ?= 30s
BENCH      ?= .
BENCHTIME  ?= 1s
SOAK_ROUNDS ?= 100

# The tools are pinned in a module of their own, so that go.mod lists only what the product needs.
TOOL := go tool -modfile=lint/go.mod

.PHONY: help build test install lint fmt bench fuzz soak screenshots clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## bin/gateway: one static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/gateway ./cmd/gateway

test: install ## install what the tests need and the machine lacks, then run everything: TIMEOUT=15m
	go vet ./...
	@# The race detector needs a C compiler; without one the tests run all the same and say so.
	@race=-race; \
	if ! command -v "$$(go env CC | cut -d' ' -f1)" >/dev/null; then \
		race=; echo 'make test: no C compiler: without the race detector'; \
	fi; \
	CGO_ENABLED=$${race:+1} $(TOOL) gotestsum --format pkgname --format-hide-empty-pkg -- \
		$$race -shuffle=on -timeout $(TIMEOUT) ./...

install: ## what `make test` installs: redis-server, postfix, exim, swaks, msmtp, dkimpy, chromium, npm packages
	@integration/install

lint: ## golangci-lint with .golangci.yml, at the version pinned in lint/go.mod
	$(TOOL) golangci-lint run ./...

fmt: ## gofumpt, in place
	$(TOOL) golangci-lint fmt ./...

bench: ## all benchmarks: BENCH=regexp BENCHTIME=1s
	go test -run '^$$' -bench '$(BENCH)' -benchmem -benchtime $(BENCHTIME) ./...

# A target that is still running when its time is up ends with "context deadline exceeded" and no input: no failure.
fuzz: ## every fuzz target in turn: FUZZTIME=30s each
	@targets=$$(grep -rnoE --include='*_test.go' --exclude-dir=node_modules '^func Fuzz[A-Za-z0-9_]+' . | sort); \
	[ -n "$$targets" ] || { echo 'make fuzz: there is no fuzz target yet'; exit 1; }; \
	failed= log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	while IFS=: read -r file _ decl; do \
		name=$${decl#func } dir=$$(dirname "$$file"); \
		echo "== $$dir $$name ($(FUZZTIME))"; \
		go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5x "$$dir" </dev/null 2>&1 | tee "$$log" || \
			{ grep -q 'context deadline exceeded' "$$log" && ! grep -q 'Failing input' "$$log"; } || failed+=" $$dir:$$name"; \
	done <<<"$$targets"; \
	[ -z "$$failed" ] || { echo "make fuzz: failed:$$failed"; exit 1; }; \
	echo "make fuzz: $$(wc -l <<<"$$targets") targets, no failure"

# What dies in a test dies HEED_ROUNDS times: 5 in `make test`.
soak: ## the tests in which processes are killed under load: SOAK_ROUNDS=100 times each
	HEED_ROUNDS=$(SOAK_ROUNDS) go test -count=1 -timeout 0 -v -run 'Kills|Failover' ./integration 2>&1 | grep -E '^(ok|FAIL|panic)|^ *(---|[a-z_]+_test\.go)'

screenshots: ## the pictures of docs/rewriting, made in Chromium from integration/testdata/newsletters
	HEED_SCREENSHOTS=$(CURDIR)/docs/rewriting go test -count=1 -run '^TestScreenshots$$' ./integration

clean: ## what the targets above have made
	rm -rf bin integration/node_modules integration/.exim
