#!/usr/bin/env bash
# What compiles Kiln to WebAssembly: the standard library for wasm32-unknown-unknown and wasm-bindgen's program. Writes
# target/wasm-toolchain/env for scripts/web.sh.
#
# The library comes from rustup. Where rustup reaches no server, or with KILN_WASM=debian, Debian's compiler (package
# rustc-web) and its source of the library do: unpacked below target/, not installed, and compiled with the page.
set -euo pipefail
cd "$(dirname "$0")/.."

triple=wasm32-unknown-unknown
toolchain=$PWD/target/wasm-toolchain
debian=$toolchain/debian
mkdir -p "$toolchain"

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

from_rustup() {
    [ "${KILN_WASM:-rustup}" = rustup ] || return 1
    [ -d "$(rustc --print sysroot)/lib/rustlib/$triple/lib" ] || timeout 300 rustup target add "$triple" >/dev/null 2>&1
}

unpack_debian() {
    [ ! -x "$debian/usr/bin/rustc" ] || return 0
    local debs=$toolchain/debs library llvm deb
    rm -rf "$debs" "$debian" "$debian.part" && mkdir -p "$debs"
    apt-cache show rustc-web >/dev/null 2>&1 || as_root apt-get update -qq
    library=$(apt-cache depends libstd-rust-web-dev | grep -o 'libstd-rust-web-[0-9][0-9.]*' | sort -V | tail -n 1)
    llvm=$(apt-cache depends "$library" | grep -o 'libllvm[0-9]*' | head -n 1)
    (cd "$debs" && apt-get download -q rustc-web rust-web-src libstd-rust-web-dev "$library" "$llvm")
    for deb in "$debs"/*.deb; do dpkg -x "$deb" "$debian.part"; done
    mv "$debian.part" "$debian"
    rm -rf "$debs"
}

if from_rustup; then
    printf 'build_std=()\n' >"$toolchain/env"
elif command -v apt-get dpkg >/dev/null 2>&1; then
    echo "rustup has no $triple; taking Debian's compiler" >&2
    unpack_debian
    # The linker is rustup's own.
    linker=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/rust-lld
    cat >"$toolchain/env" <<EOF
export LD_LIBRARY_PATH=$(dirname "$debian"/usr/lib/*/libLLVM.so.*)
export RUSTC=$debian/usr/bin/rustc
export RUSTC_BOOTSTRAP=1
export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$linker
build_std=(-Zbuild-std=std,panic_abort)
EOF
else
    echo "the standard library for $triple is missing: rustup target add $triple" >&2
    exit 1
fi

# The program must be of the library's version.
version=$(sed -n '/^name = "wasm-bindgen"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock)
bindgen=target/tools/bin/wasm-bindgen
if [ "$("$bindgen" --version 2>/dev/null || true)" != "wasm-bindgen $version" ]; then
    cargo install --quiet --version "$version" --no-default-features --debug \
        --root target/tools --target-dir target/tools/build wasm-bindgen-cli
    rm -rf target/tools/build
fi
