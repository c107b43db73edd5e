#!/usr/bin/env bash
# Prints the folder of every Go module of this repository, one a line, the root first.
set -euo pipefail
cd "$(dirname "$0")/.."
find . -name go.mod -not -path '*/testdata/*' -not -path './bin/*' -not -path './.xiezhi/*' -exec dirname {} \; | LC_ALL=C sort
