"""What a further rank on a host costs in memory: an mlp of 32 M parameters under AdamW against one of few.

    .deps/venv/bin/python benchmarks/memory.py

Trains each on 1 to 4 ranks and adds up the ranks' proportional set sizes (what several of them map counts
once) when steps are under way. The small network's figures are what the program and its libraries take; the
difference is printed per parameter byte: parameters count 1 a host, gradients 1 a rank (a micro-batch each;
accumulation over more adds a buffer for each doubling), AdamW's states 2 in all, and backward holds the largest
layer's gradient (0.5) until it is taken. Needs build/dev and what tests/run.sh brings."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import h5py
import numpy

ROOT = pathlib.Path(__file__).parent.parent
HADAL = ROOT / "build" / "dev" / "bin" / "hadal"
MPIRUN = ["bash", str(ROOT / "tests" / "mpi" / "mpirun.sh")]
WIDTHS = {"small": [8], "large": [4000, 4000, 3500]}
RANKS = (1, 2, 3, 4)


def proportional_bytes(folder):
    """Of all processes that train in this folder."""
    total = 0
    for entry in pathlib.Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
            if pathlib.Path(os.fsdecode(command[0])).name != "hadal" or os.fsencode(folder) not in b" ".join(command):
                continue
            for line in (entry / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except (OSError, IndexError):
            continue
    return total


def measure(folder, name, ranks):
    config = folder / f"{name} {ranks}.toml"
    config.write_text(
        f'[data]\ntrain = "{folder}/train.h5"\ninputs.x.path = "x"\ntargets.y.path = "y"\n'
        f'[model]\nkind = "mlp"\noptions = {{ hidden = {WIDTHS[name]}, classes = 10 }}\n'
        f'[train]\nsteps = 1000000\nglobal_batch = {4 * ranks}\nmicro_batch = 4\n[optimizer]\nkind = "adamw"\nlr = 1e-4\n'
        f'[run]\nworkers = 1\ndir = "{folder}/run {name} {ranks}"\n[checkpoint]\nevery = "1000000st"\n')
    process = subprocess.Popen([*MPIRUN, str(ranks), str(HADAL), "train", str(config)], stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, start_new_session=True)
    metrics = folder / f"run {name} {ranks}" / "metrics.jsonl"
    most = 0
    try:
        while not metrics.exists() or metrics.read_bytes().count(b"\n") < 4:
            if process.poll() is not None:
                sys.exit(process.stderr.read().decode())
            time.sleep(0.2)
        for _ in range(10):
            most = max(most, proportional_bytes(folder))
            time.sleep(0.1)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return most


def main():
    widths = [64, *WIDTHS["large"], 10]
    parameters = 4 * sum(a * b + b for a, b in zip(widths, widths[1:]))
    with tempfile.TemporaryDirectory() as text:
        folder = pathlib.Path(text)
        random = numpy.random.default_rng(1)
        with h5py.File(folder / "train.h5", "w") as file:
            file["x"] = random.standard_normal((480, 64)).astype("f4")
            file["y"] = random.integers(0, 10, 480)
        before = None
        for ranks in RANKS:
            small, large = (measure(folder, name, ranks) for name in WIDTHS)
            copies = (large - small) / parameters
            further = "" if before is None else f", {copies - before:+.2f} by the last rank"
            before = copies
            print(f"{ranks} ranks: {small / 2**20:.0f} MiB with few parameters, {large / 2**20:.0f} MiB with "
                  f"{parameters / 2**20:.0f} MiB of them: {copies:.2f} times the parameters{further}")


if __name__ == "__main__":
    main()
