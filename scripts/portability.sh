#!/usr/bin/env bash
# Does Kiln compile where it is not tested? `cargo check` of everything for other systems, and for NVIDIA's graphics cards.
# (The oldest toolchain that Cargo.toml allows is the one that builds everything.) Takes the names of
# what to check, or checks all; whatever needs a part that cannot be had here is a failure.
#   scripts/portability.sh [wasm32 | windows | aarch64 | cuda]...
# scripts/setup-portability.sh installs the parts. Each takes minutes on two cores, since all of Burn is checked again.
set -euo pipefail
cd "$(dirname "$0")/.."

# The standard library for a target, and the compiler of C for it.
need() {
    [ -d "$(rustc --print sysroot)/lib/rustlib/$1/lib" ] && command -v "$2" >/dev/null || {
        echo "portability.sh: $2 or the standard library for $1 is missing: scripts/setup-portability.sh" >&2
        exit 1
    }
}

check() {
    case $1 in
    wasm32)
        scripts/wasm-toolchain.sh
        # shellcheck disable=SC1091
        (. target/wasm-toolchain/env && cargo check -p web --target wasm32-unknown-unknown "${build_std[@]}")
        ;;
    windows)
        need x86_64-pc-windows-gnu x86_64-w64-mingw32-gcc
        cargo check --workspace --target x86_64-pc-windows-gnu
        ;;
    aarch64)
        need aarch64-unknown-linux-gnu aarch64-linux-gnu-gcc
        cargo check --workspace --target aarch64-unknown-linux-gnu
        ;;
    # As on docs.rs, so that LLVM, which a check does not link, is not downloaded.
    cuda) DOCS_RS=1 cargo check -p kiln -p train --features train/cuda ;;
    *)
        echo "portability.sh: $1 is none of wasm32, windows, aarch64, cuda" >&2
        exit 2
        ;;
    esac
    echo "$1: compiles"
}

[ $# -gt 0 ] || set -- wasm32 windows aarch64 cuda
for name in "$@"; do check "$name"; done
