#!/usr/bin/env bash
# A virtual environment in target/python with the named packages.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x target/python/bin/python ] || python3 -m venv target/python
target/python/bin/python -m pip install --quiet "$@"
