"""Kiln beside other frameworks: one command, one table.

    python benches/peers/run.py            # the whole table
    python benches/peers/run.py --quick    # a minute; shows that everything works, not how fast it is

All sides take turns within each round, on the same cores, so that a change in the machine's speed meets them all.
Each peer stays in its process, stopped while another side measures; Kiln starts anew each time (`kiln bench`). Every ratio is
taken within one round; the table gives the median over the rounds, with the lowest and highest. Figures go to
benches/results.json, the table in Markdown to standard output.
"""

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
NETS = ("cnn", "cnn-dense", "lenet5", "stack")
BATCHES = (1, 128, 1024)
PEERS = {
    "PyTorch": ("pytorch_peer.py", [], "torch", ("training", "inference")),
    "PyTorch, compiled": ("pytorch_peer.py", ["--compile"], "torch", ("training",)),
    "Keras": ("keras_peer.py", [], "keras", ("training", "inference")),
    "JAX": ("jax_peer.py", [], "jax", ("training", "inference")),
    "ONNX Runtime": ("onnx_peer.py", [], "onnxruntime", ("inference",)),
}
# Kiln's own sides: the backend, and the code path that is forced.
OURS = {
    "Kiln": ("flex", None),
    "Kiln, AVX2": ("flex", "avx2"),
    "Kiln, portable": ("flex", "portable"),
    "Kiln, NdArray": ("ndarray", None),
}
# Net, work, batch size, our side, the other side, the ratio to reach.
GOALS = [
    ("cnn-dense", "training", 128, "Kiln", "PyTorch", 5.0),
    ("cnn-dense", "training", 128, "Kiln", "Keras", 4.0),
    ("cnn-dense", "training", 128, "Kiln, AVX2", "PyTorch", 3.0),
    ("cnn-dense", "training", 128, "Kiln, NdArray", "Kiln", 0.8),
    ("lenet5", "training", 128, "Kiln", "PyTorch", 3.0),
    ("stack", "training", 128, "Kiln", "PyTorch", 1.2),
    ("cnn-dense", "inference", 1, "Kiln", "PyTorch", 4.0),
    ("cnn-dense", "inference", 1, "Kiln", "ONNX Runtime", 1.2),
    ("cnn-dense", "inference", 128, "Kiln", "ONNX Runtime", 1.5),
    ("cnn-dense", "inference", 1024, "Kiln", "ONNX Runtime", 2.0),
]
SECTIONS = ("training", "inference", "batch-sizes", "whole", "speedrun")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Peer:
    """A framework in its own process, stopped unless it is its turn."""

    def __init__(self, name: str, environment: dict):
        script, flags, _, self.works = PEERS[name]
        self.name, self.version, self.peak = name, "", 0.0
        self.process = subprocess.Popen(
            [sys.executable, HERE / script, "--serve", *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def measure(self, net: str, work: str, batch_size: int, seconds: float) -> dict:
        self.process.send_signal(signal.SIGCONT)
        request = {"net": net, "work": work, "batch_size": batch_size, "seconds": seconds}
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline())
        except (OSError, ValueError):
            return {"error": f"{self.name} ended with status {self.process.poll()}"}
        self.process.send_signal(signal.SIGSTOP)
        self.version = answer.get("version", self.version)
        return answer

    def end(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        self.process.wait()


class Kiln:
    """`kiln bench`, a process for each measurement."""

    def __init__(self, name: str, program: Path, threads: int, environment: dict):
        self.name, self.program, self.threads = name, program, threads
        self.works = ("training", "inference")
        self.backend, path = OURS[name]
        self.environment = environment | ({"KILN_KERNELS": path} if path else {})

    def measure(self, net: str, work: str, batch_size: int, seconds: float) -> dict:
        command = [self.program, "bench", "--json", "--backend", self.backend, "--threads", self.threads]
        command += ["--net", net, "--work", work, "--batch-size", batch_size]
        command += ["--rounds", 1, "--seconds", seconds]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=self.environment)
        if done.returncode:
            return {"error": done.stderr.strip().splitlines()[-1]}
        found = json.loads(done.stdout)["measurements"][0]
        return found | (found.get("latency") or {})

    def end(self) -> None:
        pass


class Table:
    """What every side measured, by (net, work, batch size) and round."""

    def __init__(self):
        self.rows: dict[tuple, dict[str, list[dict]]] = {}
        self.errors: list[str] = []

    def take_turns(self, sides: list, net: str, work: str, batch_size: int, rounds: int, seconds: float) -> None:
        row = self.rows.setdefault((net, work, batch_size), {})
        sides = [side for side in sides if work in side.works]
        for number in range(rounds):
            # Another side begins each time.
            shift = number % len(sides)
            for side in sides[shift:] + sides[:shift]:
                row.setdefault(side.name, []).append(side.measure(net, work, batch_size, seconds))
        for name, answers in row.items():
            error = next((answer["error"] for answer in answers if "error" in answer), None)
            if error:
                self.errors.append(f"{name}, `{net}`, {work}, batch {batch_size}: {error}")
                say(f"  {name}: {error}")
                row[name] = []
        say(f"{net}, {work}, batch {batch_size}: " + ", ".join(
            f"{name} {self.median(net, work, batch_size, name):.0f}" for name in row if row[name]
        ))

    def rates(self, net: str, work: str, batch_size: int, side: str) -> list[float]:
        answers = self.rows.get((net, work, batch_size), {}).get(side, [])
        return [answer["samples_per_second"] for answer in answers]

    def median(self, net: str, work: str, batch_size: int, side: str) -> float | None:
        rates = self.rates(net, work, batch_size, side)
        return statistics.median(rates) if rates else None

    def ratio(self, net: str, work: str, batch_size: int, ours: str, theirs: str) -> dict | None:
        """Median, lowest and highest of the ratios within a round."""
        pairs = zip(self.rates(net, work, batch_size, ours), self.rates(net, work, batch_size, theirs))
        ratios = [a / b for a, b in pairs]
        if not ratios:
            return None
        return {"median": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}

    def as_json(self) -> list[dict]:
        return [
            {
                "net": net,
                "work": work,
                "batch_size": batch_size,
                "side": side,
                "samples_per_second": statistics.median(answer["samples_per_second"] for answer in answers),
                "rounds": [round(answer["samples_per_second"], 1) for answer in answers],
                "parameters": answers[0]["parameters"],
                "peak_memory_mib": answers[-1]["peak_memory_mib"],
            }
            | {
                key: statistics.median(answer[key] for answer in answers)
                for key in ("p50_us", "p99_us")
                if key in answers[0]
            }
            for (net, work, batch_size), row in self.rows.items()
            for side, answers in row.items()
            if answers
        ]


def timed(command: list, environment: dict) -> dict:
    """Wall time and peak memory of a process that must succeed, and the JSON on its last line."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen([str(word) for word in command], stdout=output, stderr=errors, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            return {"error": errors.read().decode().strip()[-300:]}
        result = json.loads(output.read().decode().strip().splitlines()[-1])
    return {"wall_seconds": seconds, "peak_memory_mib": usage.ru_maxrss / 1024, "result": result}


def train(program: Path, threads: int, environment: dict, *flags) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "train", "--json", "--progress", "none", "--out", folder, "--threads", threads, *flags]
        return timed(command, environment)


def machine(threads: int) -> dict:
    def first(path: str, key: str) -> str:
        lines = Path(path).read_text().splitlines() if Path(path).is_file() else []
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "unknown")

    flags = first("/proc/cpuinfo", "flags").split()
    return {
        "processor": first("/proc/cpuinfo", "model name"),
        "vectors": "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else platform.machine(),
        "threads": threads,
        "memory": first("/proc/meminfo", "MemTotal"),
        "system": f"{platform.system()} {platform.release()}",
        "load_average_before": os.getloadavg()[0],
    }


def versions() -> dict:
    found = {"python": platform.python_version()}
    for name in ("torch", "tensorflow", "keras", "jax", "onnxruntime", "numpy"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found


def thousands(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def show(ratio: dict | None) -> str:
    return "-" if ratio is None else f"{ratio['median']:.2f} ({ratio['lowest']:.2f}-{ratio['highest']:.2f})"


def verdict(good: bool) -> str:
    return "reached" if good else "**missed**"


def goals(table: Table, results: dict) -> list[dict]:
    rows = []
    for net, work, batch_size, ours, theirs, goal in GOALS:
        ratio = table.ratio(net, work, batch_size, ours, theirs)
        if ratio:
            rows.append({
                "work": f"{work}, `{net}`, batch {batch_size}: {ours} / {theirs}",
                "goal": f"at least {goal:g}",
                "measured": show(ratio),
                "reached": ratio["median"] >= goal,
            })

    def add(work: str, goal: str, measured: str, reached: bool) -> None:
        rows.append({"work": work, "goal": goal, "measured": measured, "reached": reached})

    whole = results.get("whole", {})
    kiln, keras = whole.get("kiln", {}), whole.get("keras", {})
    if "wall_seconds" in kiln:
        peak, early = kiln["peak_memory_mib"], whole["kiln_two_epochs"]["peak_memory_mib"]
        if "wall_seconds" in keras:
            share = kiln["wall_seconds"] / keras["wall_seconds"]
            add(
                "whole process, start to tested model, 10 epochs: Kiln / Keras",
                "at most 0.25",
                f"{share:.2f} ({kiln['wall_seconds']:.0f} s and {keras['wall_seconds']:.0f} s)",
                share <= 0.25,
            )
        add("peak memory of that training", "under 200 MiB", f"{peak:.0f} MiB", peak < 200)
        add("memory after 10 epochs / after 2", "at most 1.05", f"{peak / early:.3f}", peak / early <= 1.05)
    sizes = results.get("batch_sizes")
    if sizes:
        slowest, fastest = min(sizes.values()), max(sizes.values())
        add(
            f"training, `cnn-dense`, batch {', '.join(sizes)}: slowest / fastest",
            "at least 0.7",
            f"{slowest / fastest:.2f}",
            slowest / fastest >= 0.7,
        )
    runs = results.get("speedrun")
    if runs:
        seconds = statistics.median(run["seconds"] for run in runs)
        accuracies = sorted(100 * run["test_accuracy"] for run in runs)
        mean = statistics.mean(accuracies)
        add(
            f"`configs/speedrun.toml`: seconds of training, median of {len(runs)} seeds, to 99 % on the test split",
            "at most 2 s (aim: 1 s)",
            f"{seconds:.2f} s; accuracy {mean:.2f} % on average, {accuracies[0]:.2f}-{accuracies[-1]:.2f} %",
            seconds <= 2 and mean >= 99,
        )
    return rows


def markdown(table: Table, results: dict) -> str:
    about = results["machine"]
    lines = [
        f"Measured on {results['date']}: {about['processor']}, {about['vectors']}, {about['threads']} threads, "
        f"{about['system']}; load average {about['load_average_before']:.1f} before, "
        f"{about['load_average_after']:.1f} after.",
        "Kiln "
        + results["kiln"]
        + "; "
        + ", ".join(f"{name} {version}" for name, version in results["versions"].items())
        + f". Medians of {results['rounds']} alternating rounds of {results['seconds']:g} s; "
        "in brackets the lowest and highest.",
        "",
        "| goal | to reach | measured | |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['work']} | {row['goal']} | {row['measured']} | {verdict(row['reached'])} |" for row in results["goals"]
    ]
    for work in ("training", "inference"):
        keys = [key for key in table.rows if key[1] == work]
        sides = [
            side
            for side in (*OURS, *PEERS)
            if any(table.rates(*key, side) for key in keys)
        ]
        if not keys or not sides:
            continue
        others = [side for side in sides if side != "Kiln"]
        lines += ["", f"Samples per second, {work}; behind it how many times as fast Kiln is:", ""]
        lines.append("| net | batch | " + " | ".join(["Kiln", *others]) + " |")
        lines.append("|---|---|" + "---|" * (len(others) + 1))
        for net, _, batch_size in keys:
            cells = [thousands(table.median(net, work, batch_size, "Kiln"))]
            for side in others:
                rate = thousands(table.median(net, work, batch_size, side))
                ratio = show(table.ratio(net, work, batch_size, "Kiln", side))
                cells.append(rate if rate == "-" else f"{rate}, {ratio}x")
            lines.append(f"| `{net}` | {batch_size} | " + " | ".join(cells) + " |")
    latencies = [row for row in results["measurements"] if "p50_us" in row]
    if latencies:
        lines += ["", "Latency at batch 1, microseconds:", "", "| net | side | p50 | p99 |", "|---|---|---|---|"]
        lines += [f"| `{row['net']}` | {row['side']} | {row['p50_us']:.0f} | {row['p99_us']:.0f} |" for row in latencies]
    if table.errors:
        lines += ["", "Without a figure:", "", *(f"- {error}" for error in table.errors)]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Kiln beside other frameworks")
    parser.add_argument("--quick", action="store_true", help="short rounds, few cases; no figures worth keeping")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="some parts; may be repeated")
    parser.add_argument("--net", choices=NETS, action="append", help="some networks; may be repeated")
    parser.add_argument("--peer", choices=PEERS, action="append", help="some peers; may be repeated")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a training round; inference takes half")
    parser.add_argument("--threads", type=int, default=min(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--kiln", type=Path, help="the program [default: built by cargo]")
    parser.add_argument("--out", type=Path, help="[default: benches/results.json; with --quick, none]")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds = 2, 0.2
    sections = arguments.only or (SECTIONS[:2] if arguments.quick else SECTIONS)
    nets = arguments.net or (("cnn-dense",) if arguments.quick else NETS)
    out = arguments.out or (None if arguments.quick else HERE.parent / "results.json")

    program = arguments.kiln
    if program is None:
        subprocess.run(["cargo", "build", "--quiet", "-p", "kiln"], cwd=ROOT, check=True)
        program = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "kiln"
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: arguments.threads]))
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "kiln" / "mnist"
    environment = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        environment[name] = str(arguments.threads)
    environment.setdefault("KILN_DATA", str(cache))
    has_mnist = (Path(environment["KILN_DATA"]) / "train-images-idx3-ubyte").is_file()
    if not has_mnist:
        say("MNIST is not on this machine: without the whole process and the speed run (`kiln data get mnist`)")

    peers = []
    for name in arguments.peer or PEERS:
        if arguments.quick and name == "PyTorch, compiled" and not arguments.peer:
            continue
        if importlib.util.find_spec(PEERS[name][2]) is None:
            say(f"{name} is left out: it is not installed (benches/peers/requirements.txt)")
            continue
        peers.append(Peer(name, environment))
    ours = {name: Kiln(name, program, arguments.threads, environment) for name in OURS}
    results = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(arguments.threads),
        "kiln": subprocess.run([program, "--version"], capture_output=True, text=True).stdout.split()[-1],
        "versions": versions(),
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
    }
    table = Table()
    try:
        if "training" in sections:
            for net in nets:
                kiln = list(ours.values()) if net == "cnn-dense" else [ours["Kiln"]]
                table.take_turns([*kiln, *peers], net, "training", 128, arguments.rounds, arguments.seconds)
        if "inference" in sections:
            for net in nets:
                for batch_size in BATCHES:
                    sides = [ours["Kiln"], *peers]
                    table.take_turns(sides, net, "inference", batch_size, arguments.rounds, arguments.seconds / 2)
    finally:
        for peer in peers:
            peer.end()
    if "batch-sizes" in sections:
        sizes: dict[str, list[float]] = {}
        for _ in range(3):
            for size in (32, 128, 512, 1024):
                found = ours["Kiln"].measure("cnn-dense", "training", size, arguments.seconds)
                sizes.setdefault(str(size), []).append(found["samples_per_second"])
        results["batch_sizes"] = {size: statistics.median(rates) for size, rates in sizes.items()}
        say(f"batch sizes: {results['batch_sizes']}")
    if "whole" in sections and has_mnist:
        flags = ("--config", ROOT / "configs/tutorial.toml")
        results["whole"] = {
            "kiln_two_epochs": train(program, arguments.threads, environment, *flags, "--epochs", 2),
            "kiln": train(program, arguments.threads, environment, *flags),
        }
        if any(peer.name == "Keras" for peer in peers):
            results["whole"]["keras"] = timed([sys.executable, HERE / "keras_mnist.py"], environment)
        say(f"whole process: {results['whole']}")
    if "speedrun" in sections and has_mnist:
        runs = []
        for seed in range(1, 6):
            flags = ("--config", ROOT / "configs/speedrun.toml", "--seed", seed)
            runs.append(train(program, arguments.threads, environment, *flags)["result"])
        results["speedrun"] = [
            {key: run[key] for key in ("seed", "seconds", "valid_accuracy", "test_accuracy")} for run in runs
        ]
        say(f"speed run: {results['speedrun']}")
    results["machine"]["load_average_after"] = os.getloadavg()[0]
    results["measurements"] = table.as_json()
    results["errors"] = table.errors
    results["goals"] = goals(table, results)
    print(markdown(table, results))
    if out:
        out.write_text(json.dumps(results, indent=1) + "\n")
        say(f"figures: {out}")


if __name__ == "__main__":
    main()
