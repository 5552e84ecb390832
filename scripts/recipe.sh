#!/usr/bin/env bash
# Trains configs/NAME.toml with seeds 1, 2, 3 and prints what its header states.
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:?usage: scripts/recipe.sh NAME}
cargo build --quiet -p kiln
results=$(for seed in 1 2 3; do
    target/debug/kiln train --config "configs/$name.toml" --seed "$seed" --json --progress none
done)
echo "$results" | python3 -c '
import json, statistics, sys
runs = [json.loads(line) for line in sys.stdin]
test = [100 * run["test_accuracy"] for run in runs]
print("test accuracy by seed:", " ".join(f"{value:.2f}" for value in test))
print(f"mean {statistics.mean(test):.3f} %, standard deviation {statistics.stdev(test):.3f}, lowest {min(test):.2f} %, {len(runs)} seeds")
print("validation accuracy by seed:", " ".join("%.2f" % (100 * run["valid_accuracy"]) for run in runs))
print("seconds of training, median: %.0f; images/s, median: %.0f" % (
    statistics.median(run["seconds"] for run in runs),
    statistics.median(run["train_samples_per_second"] for run in runs)))
'
