#!/usr/bin/env bash
# Runs the fuzz targets of the package in one folder one after the other, each
# for so many seconds with one worker, and writes the events of `go test -json`
# to a file in EVENTS. The instrumented binary is built once for all of them.
#
# usage: scripts/fuzz.sh EVENTS SECONDS FOLDER
set -euo pipefail
events=$1 seconds=$2
cd "$3"
package=$(go list .)
name=${package//\//-}
exec >"$events/$name.json"

binary=$events/$name.test
if ! go test -vet=off -c -fuzz=. -ldflags='-s -w' -o "$binary" . 2>"$events/$name.build"; then
	go test -vet=off -json -run='^$' -fuzz=. . # says why in events
	exit 1
fi
# fuzz TARGET runs one target, with its events on standard output.
fuzz() {
	go tool test2json -t -p "$package" \
		"$binary" -test.v=test2json -test.paniconexit0 -test.timeout $((10 * seconds + 600))s \
		-test.run '^$' -test.fuzz "^$1\$" -test.fuzztime "${seconds}s" -test.fuzzminimizetime 10x \
		-test.parallel 1 -test.fuzzcachedir "$(go env GOCACHE)/fuzz/$package"
}

# endedByItself FILE: now and then Go's fuzzer takes the end of its own time for
# a failure. It has no input to show then.
endedByItself() {
	grep -q 'context deadline exceeded' "$1" && ! grep -q 'Failing input written' "$1"
}

status=0
for target in $("$binary" -test.list '^Fuzz'); do
	output=$events/$name.$target
	if ! fuzz "$target" >"$output"; then
		if ! endedByItself "$output" || ! fuzz "$target" >"$output"; then
			status=1
		fi
	fi
	cat "$output"
	rm -f "$output"
done
rm -f "$binary"
exit "$status"
