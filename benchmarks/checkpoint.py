"""Checkpoints of about a gigabyte: hadal (`hadal bench checkpoint`) against plain writes of the same bytes, and
against torch.save with fsync and torch.load of the same tensors.

    .deps/venv/bin/python benchmarks/checkpoint.py [RANKS] [FOLDER]

The network is an mlp of 83 M parameters under AdamW, its batch such that a step lasts about as long as the copy of
its state or longer. Both sides read twice: without and with the file in the system's cache. Rounds alternate. Needs
build/dev and what tests/run.sh brings."""

import ctypes
import json
import mmap
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import h5py
import numpy
import torch

ROOT = pathlib.Path(__file__).parent.parent
HADAL = ROOT / "build" / "dev" / "bin" / "hadal"
MPIRUN = ["bash", str(ROOT / "tests" / "mpi" / "mpirun.sh")]
WIDTHS = [784, 6250, 6250, 6250, 10]
ROUNDS = 5
CONFIG = """[data]
train = "{folder}/train.h5"
inputs.x.path = "x"
targets.y.path = "y"
[model]
kind = "mlp"
options = {{ hidden = {hidden}, classes = 10 }}
[train]
steps = 100
global_batch = 16
micro_batch = 8
[optimizer]
kind = "adamw"
lr = 1e-4
[run]
dir = "{folder}/run"
"""


def is_cached(path):
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
        pages = (len(memory) + mmap.PAGESIZE - 1) // mmap.PAGESIZE
        found = (ctypes.c_ubyte * pages)()
        address = numpy.frombuffer(memory, numpy.uint8).ctypes.data
        assert ctypes.CDLL(None, use_errno=True).mincore(ctypes.c_void_p(address), ctypes.c_size_t(len(memory)), found) == 0
        return sum(page & 1 for page in found) > pages / 100


def drop(path):
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    if is_cached(path):
        raise SystemExit(f"{path} stays in the system's cache")


class Torch:
    """The same tensors, as a training script saves them."""

    def __init__(self, folder):
        self.path = folder / "torch.pt"
        layers = []
        for a, b in zip(WIDTHS, WIDTHS[1:]):
            layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
        self.model = torch.nn.Sequential(*layers[:-1])
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        for parameter in self.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()

    def round(self, times):
        begin = time.perf_counter()
        with open(self.path, "wb") as file:
            torch.save({"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}, file)
            file.flush()
            os.fsync(file.fileno())
        times["torch.save and fsync"].append(time.perf_counter() - begin)
        for name in ("torch.load, cached", "torch.load"):
            if name == "torch.load":
                drop(self.path)
            begin = time.perf_counter()
            state = torch.load(self.path)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            times[name].append(time.perf_counter() - begin)
            del state


def main():
    ranks = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as temporary:
        folder = pathlib.Path(temporary)
        draws = numpy.random.default_rng(1)
        with h5py.File(folder / "train.h5", "w") as file:
            file["x"] = draws.standard_normal((4096, WIDTHS[0])).astype("f4")
            file["y"] = draws.integers(0, WIDTHS[-1], 4096)
        config = folder / "run.toml"
        config.write_text(CONFIG.format(folder=folder, hidden=WIDTHS[1:-1]))
        peer = Torch(folder)
        peer.round({name: [] for name in ("torch.save and fsync", "torch.load, cached", "torch.load")})
        times = {"torch.save and fsync": [], "torch.load, cached": [], "torch.load": []}
        own = {}
        for _ in range(ROUNDS):
            done = subprocess.run([*MPIRUN, str(ranks), str(HADAL), "bench", "checkpoint", str(config), "--rounds", "1",
                                   "--json"], capture_output=True, text=True, check=True)
            found = json.loads(done.stdout)
            for name, seconds in found.items():
                if isinstance(seconds, list):
                    own.setdefault(name, []).extend(seconds)
            peer.round(times)
        size = found["bytes"]
    print(f"{size / 1e9:.2f} GB, {ranks} ranks, {found['writers']} writer(s), medians of {ROUNDS} rounds (least to most)")
    for name, seconds in {**own, **times}.items():
        if seconds:
            print(f"{name:<22} {statistics.median(seconds):7.3f} s  ({min(seconds):.3f} to {max(seconds):.3f})")

    def ratio(what, a, b):
        ratios = [x / y for x, y in zip(a, b)]
        print(f"{what}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")

    ratio("a blocking save against write and fsync", own["raw_cached"], own["blocking"])
    ratio("a blocking save against direct writes", own["raw_direct"], own["blocking"])
    ratio("a blocking save against torch.save", times["torch.save and fsync"], own["blocking"])
    ratio("a restart's read against torch.load", times["torch.load"], own["load"])
    ratio("the same, both from the cache", times["torch.load, cached"], own["load_cached"])
    ratio("training's wait for a save beside it, of a blocking one", own["waited"], own["blocking"])
    ratio("training's loss by a save beside it, of its copy", own["lost"], own["copy"])
    if own["step_beside"]:
        ratio("a step while one is written, of a step", own["step_beside"], own["step"])


if __name__ == "__main__":
    main()
