#!/usr/bin/env bash
# Installs what `just portability` needs: the standard library for other systems, and compilers for the C code of `ring`, the
# cryptography behind downloads.
set -euo pipefail
cd "$(dirname "$0")/.."

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

timeout 300 rustup target add x86_64-pc-windows-gnu aarch64-unknown-linux-gnu
if ! command -v x86_64-w64-mingw32-gcc aarch64-linux-gnu-gcc >/dev/null; then
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        gcc-mingw-w64-x86-64 gcc-aarch64-linux-gnu libc6-dev-arm64-cross
fi
