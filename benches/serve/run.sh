#!/usr/bin/env bash
# Throughput and latency of `kiln serve` and of ONNX Runtime behind FastAPI/uvicorn, on this machine, in one run.
# Alternates between the servers, ROUNDS times SECONDS for each number of clients, and prints the medians as Markdown.
#   benches/serve/run.sh            (PYTHON=... for an environment that already has the packages)
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${ROUNDS:-3} seconds=${SECONDS_EACH:-5} clients=${CLIENTS:-"1 16 64"} profile=${PROFILE:-release}
if [ -z "${PYTHON:-}" ]; then
    scripts/python.sh numpy onnxruntime fastapi 'uvicorn[standard]' pillow
    PYTHON=target/python/bin/python
fi
if [ "$profile" = release ]; then cargo build --quiet --release -p kiln --bin kiln --example http_load
else cargo build --quiet -p kiln --bin kiln --example http_load; fi
bin=target/$profile
work=$(mktemp -d)
servers=()
trap 'kill "${servers[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
trap 'exit 1' TERM INT

$bin/kiln export --model artifacts/reference --format onnx --out "$work/model.onnx" >/dev/null
# Neither writes a line for each request.
KILN_LOG=warn $bin/kiln serve --model artifacts/reference --port 0 >"$work/address" & servers+=($!)
uvicorn=(env MODEL="$work/model.onnx" "$PYTHON" -m uvicorn onnx_server:app --app-dir benches/serve --host 127.0.0.1
    --log-level warning)
"${uvicorn[@]}" --port 8791 & servers+=($!)
"${uvicorn[@]}" --port 8792 --workers "$(nproc)" & servers+=($!)

until [ -s "$work/address" ] && "$PYTHON" - <<'END' 2>/dev/null
import urllib.request
for port in (8791, 8792):
    urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1).read()
END
do sleep 0.2; done
kiln=$(sed 's,^http://,,' "$work/address")

for round in $(seq "$rounds"); do
    for count in $clients; do
        for server in "kiln serve=$kiln" "FastAPI, 1 worker=127.0.0.1:8791" "FastAPI, $(nproc) workers=127.0.0.1:8792"; do
            echo "${server%%=*}	$($bin/examples/http_load "${server#*=}" /v1/predict "$count" "$seconds")" >>"$work/results"
        done
    done
    echo "round $round of $rounds" >&2
done
"$PYTHON" - "$work/results" <<'END'
import collections, json, statistics, sys
results = collections.defaultdict(list)
for line in open(sys.argv[1]):
    server, figures = line.rstrip("\n").split("\t")
    figures = json.loads(figures)
    results[figures["clients"], server].append(figures)
print("| clients | server | requests/s | median ms | p99 ms |")
print("|---:|---|---:|---:|---:|")
for (clients, server), runs in sorted(results.items(), key=lambda item: item[0][0]):
    middle = lambda key: statistics.median(run[key] for run in runs)
    print(f"| {clients} | {server} | {middle('per_second'):,.0f} | {middle('p50_ms'):.2f} | {middle('p99_ms'):.2f} |")
END
