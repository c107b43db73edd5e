#!/usr/bin/env bash
# Checks everything that needs no running server: formatting of code and
# policies, builds, vet, the linter, the import table of ARCHITECTURE.md, and
# that `go mod tidy` would change nothing. Goes through all checks and fails at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
modules=$(scripts/modules.sh)
failed=

# check NAME COMMAND… runs one check and prints its output only where it fails.
check() {
	local name=$1 output
	shift
	if output=$("$@" 2>&1); then
		printf 'ok    %s\n' "$name"
	else
		printf 'FAIL  %s\n%s\n' "$name" "$output"
		failed+=", $name"
	fi
}

formatted() {
	local files
	files=$(gofmt -l .)
	[[ -z $files ]] || { printf '%s\nrun: make fmt\n' "$files"; return 1; }
}

# in_module DIR COMMAND… runs a command in a module's folder.
in_module() {
	cd "$1"
	shift
	"$@"
}

tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT

check 'format' formatted
check 'linter builds' go build -C tools -o "$tools/" honnef.co/go/tools/cmd/staticcheck
for module in $modules; do
	# The module of tools has no packages of its own.
	if [[ $module != ./tools ]]; then
		check "build $module" in_module "$module" go build -o /dev/null ./...
		check "vet $module" in_module "$module" go vet ./...
		check "lint $module" in_module "$module" "$tools/staticcheck" ./...
	fi
	check "tidy $module" in_module "$module" go mod tidy -diff
done
check 'format of policies' go run ./cmd/xiezhi policy fmt --check
check 'architecture' go test -count=1 ./tests/architecture

if [[ -n $failed ]]; then
	printf '\ncheck failed: %s\n' "${failed#, }"
	exit 1
fi
printf '\nall checks passed\n'
