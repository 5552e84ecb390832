#!/usr/bin/env bash
# Whether Python's package registry answers: what continuous integration installs can then be had, and must be there.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || exit 0 # `scripts/setup-counterparts.sh` installs it, or fails.
python3 -m venv "$folder/venv"
timeout 120 "$folder/venv/bin/python" -m pip download --quiet --no-deps --dest "$folder" idna >/dev/null 2>&1
