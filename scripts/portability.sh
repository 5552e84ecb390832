#!/usr/bin/env bash
# Does Kiln compile where it is not tested? `cargo check` of everything for other systems, and for the graphics cards of one
# maker. (The oldest toolchain that Cargo.toml allows is the one that builds everything.) Takes the names of what to check, or checks all; whatever
# needs a part that cannot be had here is a failure.
#   scripts/portability.sh [wasm32 | windows | aarch64 | cuda]...
# Each takes about five minutes on two quiet cores, since all of Burn is checked again.
set -euo pipefail
cd "$(dirname "$0")/.."

# The standard library for a target, from rustup.
add_target() {
    [ -d "$(rustc --print sysroot)/lib/rustlib/$1/lib" ] || timeout 300 rustup target add "$1" >/dev/null 2>&1 || {
        echo "portability.sh: rustup cannot get the standard library for $1 here" >&2
        exit 1
    }
}

# The C code of `ring`, the cryptography behind downloads, wants a compiler for the target.
need() {
    command -v "$1" >/dev/null || {
        echo "portability.sh: $1 is not installed (apt-get install $2)" >&2
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
        add_target x86_64-pc-windows-gnu
        need x86_64-w64-mingw32-gcc gcc-mingw-w64-x86-64
        cargo check --workspace --target x86_64-pc-windows-gnu
        ;;
    aarch64)
        add_target aarch64-unknown-linux-gnu
        need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
        cargo check --workspace --target aarch64-unknown-linux-gnu
        ;;
    cuda) cargo check -p kiln -p train --features train/cuda ;;
    *)
        echo "portability.sh: $1 is none of wasm32, windows, aarch64, cuda" >&2
        exit 2
        ;;
    esac
    echo "$1: compiles"
}

[ $# -gt 0 ] || set -- wasm32 windows aarch64 cuda
for name in "$@"; do check "$name"; done
