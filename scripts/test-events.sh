#!/usr/bin/env bash
# Runs the tests of all modules and prints the events of `go test -json`, for
# scripts/test.sh to read. Everything runs, also after a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

timeout=8m fuzz_seconds=3
if [[ -n ${XIEZHI_TEST_LONG-} ]]; then
	timeout=60m fuzz_seconds=60
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
# durations; all else is unit tests, which run with the race detector.
# shellcheck disable=SC2046 # import paths hold no blanks
go_test . -race $(go list ./... | grep -v '/xiezhi/tests/')
go_test . ./tests/...
while read -r module; do
	case $module in
	. | ./tools) ;;
	*) go_test "$module" -race ./... ;;
	esac
done < <(scripts/modules.sh)

# Each fuzz target for a fixed time, on top of its corpus, which ran above.
while IFS=: read -r file declaration; do
	target=${declaration#func }
	go_test "$(dirname "$file")" -run '^$' -fuzz "^${target%%(*}\$" -fuzztime "${fuzz_seconds}s" -fuzzminimizetime 10x .
done < <(grep -rE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*\(' . | LC_ALL=C sort)

exit "$status"
