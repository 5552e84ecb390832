#!/usr/bin/env bash
# cargo-deny, with the advisory database where it can be reached.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! cargo deny --version >/dev/null 2>&1; then
    echo "cargo-deny is not installed: cargo install --locked cargo-deny" >&2
    exit 1
fi
cargo deny --all-features check licenses bans sources
if timeout 120 cargo deny fetch db >/dev/null 2>&1; then
    cargo deny --all-features check advisories
else
    echo "advisories: the database cannot be reached from here; skipped" >&2
fi
