#!/usr/bin/env bash
# Fine-tuned beside from-scratch on the same few labelled images, three seeds each, as a Markdown table: the reference model
# (digits) on the digits of other writers and another scanner, and on Fashion-MNIST; a network trained on all of
# Fashion-MNIST on digits; and, where a file is named, ResNet-20 from CIFAR-10 in PyTorch's format on Fashion-MNIST as
# colour pictures. Installs scikit-learn, which carries the other digits, into a virtual environment.
#   scripts/transfer.sh [RESNET20-WEIGHTS]
set -euo pipefail
cd "$(dirname "$0")/.."
weights=${1:-}
cargo build --quiet -p kiln
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# pair NAME FLAGS...: three seeds to a line of JSON each.
pair() {
    local name=$1
    shift
    for seed in 1 2 3; do
        target/debug/kiln finetune "$@" --seed "$seed" --compare-scratch --json --progress none --out "$folder" |
            sed "s|^{|{\"pair\":\"$name\",|"
    done >>"$folder/results"
}

python=${KILN_PYTHON:-target/python/bin/python}
[ -n "${KILN_PYTHON:-}" ] || scripts/python.sh scikit-learn pillow
"$python" scripts/handwritten_digits.py "$folder/digits"
pair "MNIST to UCI digits, 100" --from artifacts/reference --keep-head --config configs/transfer.toml \
    --dataset "$folder/digits" --limit 100 --valid-fraction 0.2
pair "MNIST to Fashion-MNIST, 1,000" --from artifacts/reference --config configs/transfer.toml
target/debug/kiln train --dataset fashion-mnist --seed 1 --name clothes --out "$folder" --progress none --json >/dev/null
pair "Fashion-MNIST to MNIST, 100" --from "$folder/clothes" --config configs/transfer.toml --dataset mnist \
    --limit 100 --valid-fraction 0.2
pair "Fashion-MNIST to MNIST, 1,000" --from "$folder/clothes" --config configs/transfer.toml --dataset mnist
if [ -n "$weights" ]; then
    pair "CIFAR-10 (ResNet-20) to Fashion-MNIST, 500" --weights "$weights" --model resnet20 --config configs/transfer.toml \
        --input 3x32x32 --limit 500 --valid-fraction 0.2 --epochs 15
fi

python3 - "$folder/results" <<'PY'
import json, math, pathlib, statistics, sys

rows = {}
for line in open(sys.argv[1]):
    run = json.loads(line)
    rows.setdefault(run["pair"], []).append(run)

def cell(runs):
    test = [100 * run["test_accuracy"] for run in runs]
    return f"{statistics.mean(test):.2f} ({', '.join(f'{value:.2f}' for value in test)})"

def best(runs):
    return statistics.median_low(run["best_epoch"] for run in runs)

def overtakes(run):
    """The epoch after which the fine-tuned network is as good on validation as scratch ever gets."""
    goal = run["scratch"]["valid_accuracy"]
    with open(pathlib.Path(run["run"]) / "metrics.jsonl") as log:
        epochs = [json.loads(line) for line in log]
    return next((epoch["epoch"] for epoch in epochs if epoch["valid_accuracy"] >= goal), math.inf)

print("| from, to, labelled images | fine-tuned | from scratch | its best epoch | fine-tuned is there after |")
print("|---|---|---|---|---|")
for pair, runs in rows.items():
    scratch = [run["scratch"] for run in runs]
    there = statistics.median(overtakes(run) for run in runs)
    there = "never" if there == math.inf else f"{there} epochs" if there > 1 else "1 epoch"
    print(f"| {pair} | {cell(runs)} | {cell(scratch)} | {best(scratch)} | {there} |")
PY
