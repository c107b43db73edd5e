#!/usr/bin/env bash
# Prints a folder in memory that has room for the files of tests and lets
# programs run, or nothing where there is none.
set -euo pipefail
folder=/dev/shm
[[ -d $folder && -w $folder ]] || exit 0
free=$(df -Pm "$folder" | awk 'END { print $4 }')
((free >= 2048)) || exit 0
probe=$(mktemp "$folder/xiezhi-probe-XXXXXX")
trap 'rm -f "$probe"' EXIT
printf '#!/bin/sh\n' >"$probe"
chmod +x "$probe"
if "$probe" 2>/dev/null; then echo "$folder"; fi
