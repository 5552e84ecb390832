#!/usr/bin/env bash
# Tests the built page in headless Chromium. `scripts/web-test.sh measure` prints its figures instead.
set -euo pipefail
cd "$(dirname "$0")/../tests/web"
npm ci --silent
if [ "${1:-}" = measure ]; then exec node measure.mjs; fi
[ -n "${KILN:-}" ] || (cd ../.. && cargo build --quiet -p kiln)
exec npm test --silent
