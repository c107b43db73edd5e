#!/usr/bin/env bash
# Runs the tests of all modules and prints the events of `go test -json`, for
# scripts/test.sh to read. Everything runs, also after a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

timeout=8m fuzz_seconds=3
if [[ -n ${XIEZHI_TEST_LONG-} ]]; then
	timeout=60m fuzz_seconds=60
else
	# Files of tests lie in memory, so that hundreds of databases wait for no
	# disk. The long run has them on the disk.
	memory=$(scripts/memory.sh)
	export GOTMPDIR=${GOTMPDIR:-${TMPDIR:-/tmp}} TMPDIR=${memory:-${TMPDIR:-/tmp}}
fi
status=0

# go_test DIR ARGS… tests packages of the module in DIR. The checks that go test
# would make first are a part of `make check`.
go_test() {
	local dir=$1
	shift
	(cd "$dir" && go test -vet=off -json -count=1 -timeout "$timeout" "$@") || status=1
}

# What lies under tests/ drives built binaries, compares speeds or counts on
# durations, and is built as those binaries are; all else is unit tests, which
# run with the race detector. That sees nothing in SQLite, which is C made into
# Go, but makes it several times slower.
# shellcheck disable=SC2046 # import paths hold no blanks
go_test . -race -gcflags=modernc.org/sqlite/lib=-race=false $(go list ./... | grep -v '/xiezhi/tests/')
go_test . -trimpath ./tests/...
while read -r module; do
	case $module in
	. | ./tools) ;;
	*) go_test "$module" -race ./... ;;
	esac
done < <(scripts/modules.sh)

# Each fuzz target for a fixed time, on top of its corpus, which ran above: two
# packages side by side, so that one is built while the other runs.
fuzzed=$(mktemp -d)
trap 'rm -rf "$fuzzed"' EXIT
grep -rlE --include='*_test.go' '^func Fuzz' . | xargs -n 1 dirname | LC_ALL=C sort -u |
	xargs -P 2 -n 1 scripts/fuzz.sh "$fuzzed" "$fuzz_seconds" || status=1
cat "$fuzzed"/*.json

exit "$status"
