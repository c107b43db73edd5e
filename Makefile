# A bare `make` lists the targets. ARGS are handed to what the target starts,
# as in: make run ARGS='--listen 127.0.0.1:9090'

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -X main.version=$(VERSION)
ARGS    ?=

.PHONY: help run build test test-long test-matrix test-nightly check bench fmt clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

run: build ## build and start a server to try things on, with two tenants and the shipped policies
	@exec bin/xiezhi dev $(ARGS)

build: ## build bin/xiezhi
	@go build -trimpath -ldflags "$(LDFLAGS)" -o bin/xiezhi ./cmd/xiezhi

test: ## run all tests of all modules beside a real PostgreSQL and Redis, at most 10 minutes on two cores
	@scripts/test.sh

test-long: ## the same with load, fuzz and crash runs at full size
	@scripts/test.sh --long

test-matrix: ## answer cases in a real Synapse, which is installed into a folder of its own the first time; wants root
	@scripts/synapse.sh go test -count=1 -run OnSynapse ./cheq/matrix

test-nightly: ## hold the compiled Rego engine to topdown for ten minutes, with new random programs each time; ARGS='-differ 1h' for longer
	@go test -count=1 -v -timeout 3h -run TestRandomProgramsAnswerAsTopdown ./pdp/regoeval/vm/difftest -differ 10m $(ARGS)

check: ## formatting, vet, linter, import table, module files
	@scripts/check.sh

bench: build ## compare with peers on the same inputs; writes results.json, fails where a gate is missed
	@go build -C tests/peers -trimpath -o ../../bin/opa ./opa
	@go build -C tests/peers -trimpath -o ../../bin/opa-sdk ./sdk
	@go build -trimpath -o bin/bench ./tests/bench
	@exec bin/bench $(ARGS)

fmt: build ## format all Go files and policies
	@gofmt -w .
	@bin/xiezhi policy fmt -w

clean: ## remove what make built
	@rm -rf bin results.json
