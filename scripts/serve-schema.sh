#!/usr/bin/env bash
# schemathesis, which makes requests out of an interface description, against `kiln serve` and the description that it gives:
# what is allowed and what is not, for so many seconds.
#   scripts/serve-schema.sh [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
seconds=${1:-60}
python=${KILN_PYTHON:-target/python/bin/python}
[ -n "${KILN_PYTHON:-}" ] || scripts/python.sh schemathesis
kiln=${KILN:-target/debug/kiln}
[ -n "${KILN:-}" ] || cargo build --quiet -p kiln
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT

"$kiln" serve --model artifacts/reference --port 0 >"$folder/address" 2>"$folder/log" &
server=$!
until [ -s "$folder/address" ]; do
    kill -0 "$server" 2>/dev/null || { cat "$folder/log" >&2; exit 1; }
    sleep 0.1
done
# The description has no sequences of calls. What schemathesis writes down stays in the temporary folder.
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python")
status=0
cd "$folder"
"$python" -m schemathesis.cli --config-file "$root/tests/peers/schemathesis.toml" run "$(cat "$folder/address")/openapi.json" \
    --phases examples,coverage,fuzzing --max-time "$seconds" --generation-database none --no-color || status=$?
! grep -q panicked "$folder/log" || { grep panicked "$folder/log" >&2; exit 1; }
kill -0 "$server" 2>/dev/null || { echo "serve-schema.sh: the server has ended" >&2; exit 1; }
exit "$status"
