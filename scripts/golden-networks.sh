#!/usr/bin/env bash
# Every named network with random weights of PyTorch or torchvision, at the size it was published for: parameters and
# logits compared. One at a time, since a VGG is half a gigabyte. Takes the networks' names, or all of them.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${KILN_PYTHON:-target/python/bin/python}
if [ ! -x "$python" ]; then
  scripts/python.sh torch torchvision safetensors numpy
  python=target/python/bin/python
fi
script=tests/golden/networks.py
names=("$@")
[ ${#names[@]} -gt 0 ] || mapfile -t names < <("$python" "$script" --list)
folder=$PWD/target/golden
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for name in "${names[@]}"; do
  rm -rf "$folder"
  "$python" "$script" "$folder" "$name"
  KILN_GOLDEN="$folder" cargo test -q -p kiln --test counterparts whole_networks -- --nocapture >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
  grep "largest difference" "$log"
done
rm -rf "$folder"
