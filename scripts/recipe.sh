#!/usr/bin/env bash
# Trains configs/NAME.toml with the seeds 1 to SEEDS (3), prints what its header states, and stores the figures in
# configs/results.json, with which a test compares the header and the README.
#   scripts/recipe.sh NAME [SEEDS]
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:?usage: scripts/recipe.sh NAME [SEEDS]}
cargo build --quiet -p kiln
results=$(mktemp)
trap 'rm -f "$results"' EXIT
for seed in $(seq "${2:-3}"); do
    target/debug/kiln train --config "configs/$name.toml" --seed "$seed" --json --progress none
done >"$results"
python3 - "$name" "$results" <<'PY'
import datetime, json, pathlib, re, statistics, sys

name = sys.argv[1]
runs = [json.loads(line) for line in open(sys.argv[2])]
header = pathlib.Path(f"configs/{name}.toml").read_text()
said = lambda word: re.search(f"^# {word}: (.*)$", header, re.MULTILINE)[1]
percent = lambda key: [round(100 * run[key], 2) for run in runs]
record = json.loads((pathlib.Path(runs[0]["run"]) / "run.json").read_text())
test = percent("test_accuracy")
entry = {
    "command": said("Command"),
    "hardware": said("Hardware"),
    "versions": record["versions"],
    "date": datetime.date.today().isoformat(),
    "seeds": [run["seed"] for run in runs],
    "test_accuracy": test,
    "valid_accuracy": percent("valid_accuracy"),
    "epochs": runs[0]["epochs"],
    "seconds": [round(statistics.median(run["seconds"] for run in runs), 2)],
    "images_per_second": [round(statistics.median(run["train_samples_per_second"] for run in runs))],
}
print("test accuracy by seed:", " ".join(f"{value:.2f}" for value in test))
spread = f", standard deviation {statistics.stdev(test):.2f}" if len(test) > 1 else ""
print(f"mean {statistics.mean(test):.2f} %{spread}, lowest {min(test):.2f} %, {len(runs)} seeds")
print("validation accuracy by seed:", " ".join(f"{value:.2f}" for value in entry["valid_accuracy"]))
print(f"seconds of training, median: {entry['seconds'][0]}; images/s, median: {entry['images_per_second'][0]}")
path = pathlib.Path("configs/results.json")
results = json.loads(path.read_text())
if "variants" in results.get(name, {}):
    entry["variants"] = results[name]["variants"]
results[name] = entry
text = json.dumps(results, indent=1, sort_keys=False)
# Lists of figures on one line.
text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda list: "[" + re.sub(r"\s*\n\s*", " ", list[1]) + "]", text)
path.write_text(text + "\n")
print("stored in configs/results.json; the header of the recipe and the README must state the same")
PY
