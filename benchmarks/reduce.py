"""The reduction, and reduction plus AdamW: hadal, MPI_Allreduce and PyTorch's gloo, in turn, on two ranks.

    .deps/venv/bin/python benchmarks/reduce.py [TURNS]

In each turn every contestant runs ROUNDS rounds with the machine to itself; prints medians over all rounds,
the middle half, and the ratios of the medians. All flush denormals to zero and use one thread a rank. Needs
build/dev and what tests/run.sh brings."""

import json
import pathlib
import statistics
import subprocess
import sys

from torchrun import Torchrun

ROOT = pathlib.Path(__file__).parent.parent
MPIRUN = ["bash", str(ROOT / "tests" / "mpi" / "mpirun.sh")]
HADAL = str(ROOT / "build" / "dev" / "bin" / "hadal")
ROUNDS = 10


def hadal(size, optimizer, ranks, workers):
    done = subprocess.run(
        [*MPIRUN, str(ranks), HADAL, "bench", "reduce", "--sizes", str(size), "--optimizer", optimizer,
         "--rounds", str(ROUNDS), "--workers", str(workers), "--json"], capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)
    assert all(row["wrong"] == 0 for row in rows)
    return {row["order"]: row["all_seconds"] for row in rows}


def main(turns):
    gloo = Torchrun("reduce.py")
    for size, optimizer in ((25 << 20, "none"), (100 << 20, "none"), (100_000_000, "adamw")):
        seconds = {}
        for _ in range(turns):
            for order, taken in hadal(size, optimizer, 2, 1).items():
                seconds.setdefault("hadal " + order, []).extend(taken)
            seconds.setdefault("one rank, two workers", []).extend(hadal(size, optimizer, 1, 2)["canonical"])
            seconds.setdefault("gloo", []).extend(gloo.ask(size // 4, optimizer, ROUNDS))
        base = statistics.median(seconds["hadal canonical"])
        print(f"{size} bytes, {'sum' if optimizer == 'none' else 'sum and ' + optimizer}")
        for name, taken in seconds.items():
            low, middle, high = statistics.quantiles(taken, n=4)
            print(f"  {name:22} {1e3 * middle:8.2f} ms  (middle half {1e3 * low:.2f} to {1e3 * high:.2f})"
                  f"  {middle / base:6.2f} of hadal canonical")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
