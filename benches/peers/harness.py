"""What the peers share: flags, images, timing, and the protocol with run.py.

A peer builds a `Case` for a network and a kind of work. Run by hand, it measures that case and prints a JSON line.
Under run.py (`--serve`) it answers one request a line, so that all sides can take turns without starting anew.
"""

import argparse
import json
import os
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import numpy as np

from nets import CLASSES, NETS, Net

WORKS = ("training", "inference")
# Images kept in memory as bytes; batches are drawn from them.
IMAGES = 16_384


@dataclass
class Case:
    """One network at one kind of work."""

    parameters: int
    # One batch; returns when its result can be read.
    step: Callable[[], None]
    # Samples and seconds of a round, where the framework has its own loop.
    run: Callable[[float], tuple[int, float]] | None = None


@dataclass
class Peer:
    """A framework: its name, version, and how it builds a case from (net, work, batch size)."""

    name: str
    version: str
    build: Callable[[Net, str, int], Case]
    works: tuple[str, ...] = WORKS
    cases: dict = field(default_factory=dict)


def threads() -> int:
    return int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))


def images(net: Net) -> tuple[np.ndarray, np.ndarray]:
    """Pixels `[N, C, H, W]` and labels `[N]` as bytes: MNIST where KILN_DATA names its folder, else noise."""
    folder = Path(os.environ.get("KILN_DATA", "")) / "train-images-idx3-ubyte"
    if net.input == (1, 28, 28) and folder.is_file():
        return mnist("train", IMAGES)
    generator = np.random.default_rng(1)
    pixels = generator.integers(0, 256, (IMAGES, *net.input), dtype=np.uint8)
    return pixels, generator.integers(0, CLASSES, IMAGES, dtype=np.uint8)


def mnist(split: str, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """MNIST's `train` or `t10k` from the IDX files in KILN_DATA."""
    folder = Path(os.environ["KILN_DATA"])
    pixels = np.fromfile(folder / f"{split}-images-idx3-ubyte", dtype=np.uint8)[16:].reshape(-1, 1, 28, 28)
    labels = np.fromfile(folder / f"{split}-labels-idx1-ubyte", dtype=np.uint8)[8:]
    return pixels[:count].copy(), labels[:count].copy()


def order(size: int, batch_size: int):
    """Endless index arrays of a batch each, shuffled anew for every pass."""
    generator = np.random.default_rng(1)
    while True:
        permutation = generator.permutation(size)
        for start in range(0, size - batch_size + 1, batch_size):
            yield permutation[start : start + batch_size]


def measure(peer: Peer, net: str, work: str, batch_size: int, seconds: float) -> dict:
    """One round; the first call of a case builds and warms it up."""
    key = (net, work, batch_size)
    if key not in peer.cases:
        case = peer.build(NETS[net], work, batch_size)
        assert case.parameters == NETS[net].parameters, f"{case.parameters} parameters"
        peer.cases[key] = case
        warm_up = time.perf_counter()
        for _ in range(5):
            case.step()
        while time.perf_counter() - warm_up < min(seconds, 1.0):
            case.step()
        if case.run:
            case.run(seconds / 4)
    case = peer.cases[key]
    times = []
    if case.run:
        samples, elapsed = case.run(seconds)
    else:
        start = last = time.perf_counter()
        while last - start < seconds:
            case.step()
            now = time.perf_counter()
            times.append(now - last)
            last = now
        samples, elapsed = len(times) * batch_size, last - start
    result = {
        "peer": peer.name,
        "version": peer.version,
        "net": net,
        "work": work,
        "batch_size": batch_size,
        "threads": threads(),
        "parameters": case.parameters,
        "samples_per_second": samples / elapsed,
    }
    if work == "inference" and batch_size == 1:
        p50, p99 = np.percentile(times, [50, 99]) * 1e6
        result |= {"p50_us": p50, "p99_us": p99}
    return result | {"peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main(peer: Peer) -> None:
    # Whatever a framework prints must not get between the JSON lines.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    parser = argparse.ArgumentParser(description=f"speed of {peer.name}")
    parser.add_argument("--serve", action="store_true", help="answer one JSON request a line")
    parser.add_argument("--net", choices=NETS, default="cnn")
    parser.add_argument("--work", choices=peer.works, default=peer.works[-1])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    arguments, _ = parser.parse_known_args()
    if arguments.serve:
        for line in sys.stdin:
            try:
                answer = measure(peer, **json.loads(line))
            except Exception as error:  # one case that fails is a row of the table, not the end of the run
                answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
            answers.write(json.dumps(answer) + "\n")
        return
    for _ in range(arguments.rounds):
        result = measure(peer, arguments.net, arguments.work, arguments.batch_size, arguments.seconds)
        answers.write(json.dumps(result) + "\n")
