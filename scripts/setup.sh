#!/usr/bin/env bash
# Installs what the checks need and a clean machine lacks. The product itself needs only the Rust toolchain and,
# for `--backend wgpu`, a graphics driver.
set -euo pipefail
cd "$(dirname "$0")/.."

installed() { command -v "$1" >/dev/null 2>&1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# A software Vulkan driver where there is no other, so that the wgpu tests have something to run on.
if installed apt-get && ! ls /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json >/dev/null 2>&1; then
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq mesa-vulkan-drivers
fi
# Unoptimised: what they do here takes a second either way, and they are built in a fraction of the time.
installed just || cargo install --locked --quiet --debug just
cargo deny --version >/dev/null 2>&1 || cargo install --locked --quiet --debug cargo-deny
