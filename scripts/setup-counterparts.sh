#!/usr/bin/env bash
# Installs what `just counterparts` needs and a clean machine lacks, beside scripts/setup.sh.
set -euo pipefail

installed() { command -v "$1" >/dev/null 2>&1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# What the peers need: Python for PyTorch and ONNX Runtime, Node and Chromium for the page.
packages=()
python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || packages+=(python3 python3-venv)
installed npm || packages+=(nodejs npm)
installed chromium || installed google-chrome || packages+=(chromium)
if installed apt-get && [ ${#packages[@]} -gt 0 ]; then
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi
