#!/usr/bin/env bash
# Runs every test of every module beside a real PostgreSQL and Redis, which
# tests/services finds or starts. With --long, load, fuzz and crash runs have
# their full size instead of a tenth of it.
set -euo pipefail
cd "$(dirname "$0")/.."

unset XIEZHI_TEST_LONG
case ${1-} in
'') ;;
--long) export XIEZHI_TEST_LONG=1 ;;
*)
	echo "usage: scripts/test.sh [--long]" >&2
	exit 2
	;;
esac
if [[ $(go env CGO_ENABLED) != 1 ]]; then
	echo "test: the race detector needs cgo: install a C compiler (Debian: apt-get install gcc libc6-dev), or unset CGO_ENABLED" >&2
	exit 1
fi

tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
go build -trimpath -o "$tools/" ./tests/services ./tests/report

status=0
"$tools/services" scripts/test-events.sh | "$tools/report" || status=$?
echo "took $((SECONDS / 60)) min $((SECONDS % 60)) s"
exit "$status"
