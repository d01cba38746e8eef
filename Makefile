# Whorl. `make help` lists what there is to do; Go and make are all it needs.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export GOTOOLCHAIN := local
export GOFLAGS     := -mod=readonly $(filter-out -mod=%,$(GOFLAGS))
export CGO_ENABLED ?= 0

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
BIN     := bin/whorl
# Where the breaking check finds the contract as it was.
AGAINST ?= .git\#branch=main

.PHONY: help
help: ## Say what each target does
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: build ## Start a collector, replay the sample through a probe, show what came of it
	@examples/demo.sh $(BIN)

.PHONY: build
build: ## Build bin/whorl
	@mkdir -p bin
	go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/whorl

.PHONY: test
test: ## Run the tests, with the race detector where a C compiler is installed
	@if command -v $${CC:-cc} >/dev/null; then \
	  echo "go test -race -shuffle=on ./..."; CGO_ENABLED=1 go test -race -shuffle=on ./...; \
	else \
	  echo "no C compiler: the race detector is off"; go test -shuffle=on ./...; \
	fi

.PHONY: e2e
e2e: build .bin/grpcurl ## Run the binaries against each other, and grpcurl against a live collector
	WHORL_BIN=$(abspath $(BIN)) GRPCURL=$(abspath .bin/grpcurl) go test -count=1 -p 1 -timeout 30m -tags e2e ./test/...
	go test -count=1 -run TestDamagedCaptures ./probe

.PHONY: faults
faults: build ## Break things around the binaries for half an hour, under load, and count (root: power cuts and full disks too)
	go build -tags whorl_planted -trimpath -o $(BIN)-planted ./cmd/whorl
	WHORL_FAULTS=long WHORL_BIN=$(abspath $(BIN)) WHORL_PLANTED_BIN=$(abspath $(BIN)-planted) go test -count=1 -v -timeout 90m -tags e2e ./test/faults

.PHONY: lint
lint: .bin/staticcheck proto-lint ## Check format, vet, staticcheck, the contract and generated code
	@bad=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$bad" ]; then echo "gofmt would change:"; echo "$$bad"; exit 1; fi
	go vet ./...
	go vet -tags e2e ./test/...
	.bin/staticcheck ./...

.PHONY: proto-lint
proto-lint: .bin/buf .bin/protoc-gen-go .bin/protoc-gen-go-grpc ## Check the contract: lint, format, breaking changes, drift
	.bin/buf lint
	.bin/buf format --diff --exit-code
	@if git cat-file -e main:buf.yaml 2>/dev/null; then echo ".bin/buf breaking --against '$(AGAINST)'"; .bin/buf breaking --against '$(AGAINST)'; \
	  elif git cat-file -e HEAD:buf.yaml 2>/dev/null; then tmp=$$(mktemp -d); git archive HEAD proto buf.yaml | tar -x -C $$tmp; .bin/buf breaking --against $$tmp; rm -rf $$tmp; fi
	@tmp=$$(mktemp -d); trap 'rm -rf '$$tmp EXIT; .bin/buf generate -o $$tmp; \
	  diff -r -x '*.proto' proto $$tmp/proto || { echo "generated Go differs from the contract: make generate"; exit 1; }

.PHONY: generate
generate: .bin/buf .bin/protoc-gen-go .bin/protoc-gen-go-grpc ## Generate Go from the contract
	.bin/buf format -w
	find proto -name '*.pb.go' -delete
	.bin/buf generate

.PHONY: bench
bench: ## Measure what a packet, a query and a subscriber cost (minutes)
	go run ./bench

FUZZTIME ?= 10s
.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (default 10s)
	@go list -f '{{.Dir}} {{.ImportPath}}' ./... | while read -r dir pkg; do \
	  grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$dir/*_test.go 2>/dev/null | sed 's/func //' | sort -u | while read -r target; do \
	    echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5s $$pkg || exit 1; \
	  done || exit 1; \
	done

.PHONY: fuzz-long
fuzz-long: ## Run each fuzz target a million times (hours)
	@$(MAKE) --no-print-directory fuzz FUZZTIME=1000000x

.PHONY: bench-full
bench-full: ## The same with larger tables and longer runs
	go run ./bench -full

.PHONY: bench-compare
bench-compare: .bin/benchstat ## Compare two results, also of go test -bench: make bench-compare OLD=bench/out/a.txt NEW=bench/out/b.txt
	.bin/benchstat $(OLD) $(NEW)

.PHONY: ci
ci: lint test e2e run ## What must pass before a change lands
	@echo "ci: all passed"

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin .bin bench/out

# Tools, each pinned in a module file of its own so that none of their
# dependencies reaches the program.
.bin/buf: tools/buf.mod
	go build -modfile=tools/buf.mod -o $@ github.com/bufbuild/buf/cmd/buf
.bin/protoc-gen-go: tools/protoc.mod
	go build -modfile=tools/protoc.mod -o $@ google.golang.org/protobuf/cmd/protoc-gen-go
.bin/protoc-gen-go-grpc: tools/protoc.mod
	go build -modfile=tools/protoc.mod -o $@ google.golang.org/grpc/cmd/protoc-gen-go-grpc
.bin/staticcheck: tools/lint.mod
	go build -modfile=tools/lint.mod -o $@ honnef.co/go/tools/cmd/staticcheck
.bin/grpcurl: tools/grpcurl.mod
	go build -modfile=tools/grpcurl.mod -o $@ github.com/fullstorydev/grpcurl/cmd/grpcurl
.bin/benchstat: tools/lint.mod
	go build -modfile=tools/lint.mod -o $@ golang.org/x/perf/cmd/benchstat
