#!/usr/bin/env bash
# What compiles Kiln to WebAssembly, in target/: the standard library for wasm32-unknown-unknown and wasm-bindgen's
# program. Writes target/wasm-toolchain/env for scripts/web.sh.
#
# The library comes from rustup. Where rustup has no server to ask, Debian's rustc (package rustc-web) and its source of
# the library do: unpacked below target/, not installed, and built together with the page.
set -euo pipefail
cd "$(dirname "$0")/.."

toolchain=$PWD/target/wasm-toolchain
triple=wasm32-unknown-unknown
mkdir -p "$toolchain"

has_library() { [ -d "$(rustc --print sysroot)/lib/rustlib/$triple/lib" ]; }

# From Debian: $1/usr/bin/rustc with the source of its library. The linker is rustup's own.
unpack_debian() {
    local root=$1 debs=$toolchain/debs library rustc
    if [ ! -x "$root/usr/bin/rustc" ]; then
        rm -rf "$debs" "$root" && mkdir -p "$debs"
        apt-cache show rustc-web >/dev/null 2>&1 || as_root apt-get update -qq
        library=$(apt-cache depends rustc-web libstd-rust-web-dev | grep -o 'libstd-rust-web-[0-9.]*' | sort -V | tail -n 1)
        rustc=$(apt-cache depends "$library" | grep -o 'libllvm[0-9]*' | head -n 1)
        (cd "$debs" && apt-get download -q rustc-web rust-web-src libstd-rust-web-dev "$library" "$rustc")
        for deb in "$debs"/*.deb; do dpkg -x "$deb" "$root.part"; done
        mv "$root.part" "$root"
        rm -rf "$debs"
    fi
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

if has_library || rustup target add "$triple" >/dev/null 2>&1; then
    printf 'build_std=()\n' >"$toolchain/env"
elif command -v apt-get >/dev/null 2>&1; then
    echo "rustup offers no $triple here; taking Debian's compiler" >&2
    unpack_debian "$toolchain/debian"
    host=$(rustc -vV | sed -n 's/^host: //p')
    cat >"$toolchain/env" <<EOF
export LD_LIBRARY_PATH=$toolchain/debian/usr/lib/$(gcc -print-multiarch 2>/dev/null || echo x86_64-linux-gnu)
export RUSTC=$toolchain/debian/usr/bin/rustc
export RUSTC_BOOTSTRAP=1
export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$(rustc --print sysroot)/lib/rustlib/$host/bin/rust-lld
build_std=(-Zbuild-std=std,panic_abort)
EOF
else
    echo "$triple is missing: rustup target add $triple" >&2
    exit 1
fi

# wasm-bindgen's program must be of the library's version.
version=$(sed -n '/^name = "wasm-bindgen"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock)
bindgen=target/tools/bin/wasm-bindgen
if [ "$("$bindgen" --version 2>/dev/null || true)" != "wasm-bindgen $version" ]; then
    cargo install --quiet --version "$version" --no-default-features --debug \
        --root target/tools --target-dir target/tools/build wasm-bindgen-cli
    rm -rf target/tools/build
fi
