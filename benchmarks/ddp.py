"""Whole steps on synthetic data: hadal and PyTorch's DistributedDataParallel, in turn, on two cores.

    .deps/venv/bin/python benchmarks/ddp.py [TURNS [CASE …]]

Contestants: hadal with two ranks of one worker and with one rank of two workers, in the canonical order and in
the MPI library's ("fast"); DistributedDataParallel on gloo with two processes, fused optimizer and bucket views,
flushing denormals ("flush") and as users get it ("plain"). In each turn every contestant has the machine to itself
for STEPS steps; prints medians over all steps, the middle half, and the ratio to hadal's two ranks. Needs
build/dev and what tests/run.sh brings."""

import json
import pathlib
import statistics
import subprocess
import sys

from torchrun import Torchrun

ROOT = pathlib.Path(__file__).parent.parent
HADAL = str(ROOT / "build" / "dev" / "bin" / "hadal")
STEPS = 12

# name: model, micro-batch, optimizer, precision
CASES = {
    "mlp-adamw": ("mlp", 64, "adamw", "float32"),
    "mlp-sgd": ("mlp", 64, "sgd", "float32"),
    "gpt": ("gpt", 8, "adamw", "float32"),
    "resnet18": ("resnet18", 32, "sgd", "float32"),
    "gpt-bfloat16": ("gpt", 8, "adamw", "bfloat16"),
    "resnet18-bfloat16": ("resnet18", 32, "sgd", "bfloat16"),
}


def hadal(case, ranks, workers, order):
    model, batch, optimizer, precision = case
    command = [HADAL, "bench", "step", "--model", model, "--micro-batch", str(batch), "--optimizer", optimizer,
               "--precision", precision, "--order", order, "--workers", str(workers), "--steps", str(STEPS), "--json"]
    if ranks > 1:
        command = ["bash", str(ROOT / "tests" / "mpi" / "mpirun.sh"), str(ranks), *command]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main(turns, names):
    ddp = Torchrun("step.py")
    for name in names:
        case, seconds, exposed = CASES[name], {}, []
        for _ in range(turns):
            for label, ranks, workers, order in (
                    ("hadal, two ranks", 2, 1, "canonical"), ("hadal, two ranks, fast", 2, 1, "fast"),
                    ("hadal, two workers", 1, 2, "canonical")):
                found = hadal(case, ranks, workers, order)
                seconds.setdefault(label, []).extend(found["step_seconds"])
                if label == "hadal, two ranks":
                    exposed += [(r + u) / s for r, u, s in zip(
                        found["reduce_seconds"], found["update_seconds"], found["step_seconds"])]
            for flush in ("flush", "plain"):
                seconds.setdefault(f"DDP, {flush}", []).extend(ddp.ask(*case, flush, STEPS))
        base = statistics.median(seconds["hadal, two ranks"])
        print(f"{name}: reduction and update {100 * statistics.median(exposed):.1f} % of the step of two ranks")
        for label, taken in seconds.items():
            low, middle, high = statistics.quantiles(taken, n=4)
            print(f"  {label:24} {1e3 * middle:8.2f} ms  (middle half {1e3 * low:.2f} to {1e3 * high:.2f})"
                  f"  {middle / base:6.3f} of hadal, two ranks", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3, sys.argv[2:] or CASES)
