#!/usr/bin/env bash
# Fine-tunes the reference model on 1,000 labelled Fashion-MNIST images and trains from scratch on the same, three seeds.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --quiet -p kiln
results=$(for seed in 1 2 3; do
    target/debug/kiln finetune --from artifacts/reference --config configs/transfer.toml --seed "$seed" \
        --compare-scratch --json --progress none
done)
echo "$results" | python3 -c '
import json, statistics, sys
runs = [json.loads(line) for line in sys.stdin]
rows = [("fine-tuned", runs), ("from scratch", [run["scratch"] for run in runs])]
for name, side in rows:
    test = [100 * run["test_accuracy"] for run in side]
    print(f"{name:13} test accuracy", " ".join(f"{value:.2f}" for value in test),
          f"mean {statistics.mean(test):.2f} %, best epoch", " ".join(str(run["best_epoch"]) for run in side))
'
