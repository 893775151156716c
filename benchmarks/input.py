"""Training from gzip files on two ranks: hadal, and DistributedDataParallel with h5py and a DataLoader, in turn.

    .deps/venv/bin/python benchmarks/input.py [TURNS [CASE …]]

Each case is a network, and float32 images [3, 64, 64] with so many a chunk (half of their bits random, so that
they compress), read in shuffled order; hadal shuffles large chunks by blocks. The peer gets its best number of
workers (0, 1 or 2) in an extra turn. Prints the medians of all steps, their middle half, the ratio, and what share
of hadal's steps was waiting for data. Needs build/dev and what tests/run.sh brings."""

import importlib.util
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

import torch
from peers.input import MODELS
from read import HADAL, make
from torchrun import Torchrun

ROOT = pathlib.Path(__file__).parent.parent

# network, samples a chunk, samples in the file, micro-batch, timed steps of hadal and of the peer
CASES = {
    "resnet18, chunk per sample": ("resnet18", 1, 6400, 32, 25, 12),
    "resnet18, 64 a chunk": ("resnet18", 64, 6400, 32, 25, 12),
    "convnet, chunk per sample": ("convnet", 1, 6400, 32, 90, 20),
    "convnet, 64 a chunk": ("convnet", 64, 6400, 32, 90, 12),
}
WARM_UP = 5


def exporter():
    spec = importlib.util.spec_from_file_location("hadal_export", ROOT / "engine" / "export" / "hadal_export.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_config(folder, model, chunk, batch, steps):
    (folder / "run.toml").write_text(f"""[run]
workers = 1
[data]
train = "x.h5"
shuffle = "{'block' if chunk > 1 else 'full'}"
inputs.x.path = "x"
targets.y.path = "y"
[model]
program = "net.pt2"
[objective]
loss = "cross_entropy"
[train]
steps = {steps + WARM_UP}
global_batch = {2 * batch}
micro_batch = {batch}
[optimizer]
kind = "sgd"
lr = 1e-3
momentum = 0.9
[checkpoint]
every = "1h"
""")
    exporter().export(MODELS[model]().train(), (torch.zeros(batch, 3, 64, 64),), folder / "net.pt2")


def ours(folder, batch, turn):
    run = folder / f"run-{turn}"
    command = ["bash", str(ROOT / "tests" / "mpi" / "mpirun.sh"), "2", str(HADAL), "train", str(folder / "run.toml"),
               "--set", f"run.dir={run}"]
    subprocess.run(command, capture_output=True, check=True)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "train"][WARM_UP:]
    return [2 * batch / line["samples_per_second"] for line in steps], [line["data_wait"] for line in steps]


def main(turns, names):
    ddp = Torchrun("input.py")
    for name in names:
        model, chunk, rows, batch, own_steps, steps = CASES[name]
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary)
            make(folder / "x.h5", rows, chunk, {"compression": "gzip"})
            write_config(folder, model, chunk, batch, own_steps)

            def theirs(workers):
                request = "\t".join(map(str, (folder / "x.h5", model, batch, workers, "shuffle", steps)))
                return ddp.ask(request)

            best = min((0, 1, 2), key=lambda workers: statistics.median(theirs(workers)))
            seconds, waits, peers = [], [], []
            for turn in range(turns):
                taken, waited = ours(folder, batch, turn)
                seconds += taken
                waits += waited
                peers += theirs(best)
            print(name)
            for label, taken in (("hadal", seconds), (f"DDP, DataLoader of {best} workers", peers)):
                low, middle, high = statistics.quantiles(taken, n=4)
                print(f"  {label:<30} {1e3 * middle:8.2f} ms  (middle half {1e3 * low:.2f} to {1e3 * high:.2f})")
            ratio = statistics.median(peers) / statistics.median(seconds)
            print(f"  {ratio:.2f} times; hadal waits for data {100 * statistics.median(waits):.2f} % of a step "
                  f"(mean {100 * statistics.mean(waits):.2f})", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3, sys.argv[2:] or list(CASES))
