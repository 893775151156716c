"""What finding the data costs, and whether it stays small: hadal's index of chunks against h5py's.

    .deps/venv/bin/python benchmarks/index.py [--rounds N] [--chunks N] [--shards N] [--epochs N]

1. One file of a million chunks, its index a B-tree or an array: `hadal check --data` as a whole process against
   `chunk_iter` of h5py, which has a newer HDF5 library, in turn.
2. Many shards on two ranks: how often each is opened until the first step has been taken, counted by strace; and by
   a second start, which knows them.
3. The same shards for many epochs on two ranks: open files and resident memory after the first tenth of the epochs
   and at their end."""

import argparse
import collections
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import h5py
import numpy

ROOT = pathlib.Path(__file__).parent.parent
HADAL = os.environ.get("HADAL", ROOT / "build" / "dev" / "bin" / "hadal")
CONFIG = """[data]
train = "{files}"
shuffle = "full"
memory = "64MiB"
inputs.x.path = "x"
targets.y.path = "y"
[model]
kind = "mlp"
options = {{ classes = 10, hidden = [8] }}
[objective]
loss = "cross_entropy"
[train]
{length}
global_batch = 100
micro_batch = 50
[optimizer]
kind = "sgd"
lr = 0.01
[checkpoint]
every = "1000000ep"
"""


def write_config(folder, files, length):
    path = folder / "run.toml"
    path.write_text(CONFIG.format(files=files, length=length))
    return path


def ranks(count, *command):
    root = ["--allow-run-as-root"] if os.getuid() == 0 else []
    return ["mpirun", *root, "--oversubscribe", "--bind-to", "none", "-n", str(count), *map(str, command)]


def many_chunks(path, chunks, libver):
    draws = numpy.random.default_rng(1)
    with h5py.File(path, "w", libver=libver) as file:
        x = file.create_dataset("x", (chunks, 16), "u1", chunks=(1, 16))
        for first in range(0, chunks, 10000):
            count = min(10000, chunks - first)
            x[first:first + count] = draws.integers(0, 256, (count, 16), "u1")
        file["y"] = draws.integers(0, 10, chunks)


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def theirs(path):
    places = []
    with h5py.File(path, "r") as file:
        file["x"].id.chunk_iter(lambda chunk: places.append((chunk.byte_offset, chunk.size)))
    return places


def index(folder, chunks, rounds):
    for name, libver in {"B-tree": ("earliest", "v108"), "array": ("v110", "v110")}.items():
        path = folder / "chunks.h5"
        many_chunks(path, chunks, libver)
        config = write_config(folder, path, "epochs = 1")
        command = [str(HADAL), "check", str(config), "--data"]
        small = [str(HADAL), "--version"]
        own, other, empty = [], [], []
        for _ in range(rounds):
            own.append(seconds(lambda: subprocess.run(command, check=True, capture_output=True)))
            other.append(seconds(lambda: theirs(path)))
            empty.append(seconds(lambda: subprocess.run(small, check=True, capture_output=True)))
        print(f"{chunks} chunks, {name}: hadal check --data {statistics.median(own):.2f} s ({min(own):.2f} to "
              f"{max(own):.2f}), of that the process itself {statistics.median(empty):.2f}; h5py {h5py.version.hdf5_version} "
              f"chunk_iter {statistics.median(other):.2f} s ({min(other):.2f} to {max(other):.2f})", flush=True)


def make_shards(folder, shards):
    draws = numpy.random.default_rng(2)
    (folder / "shards").mkdir()
    for k in range(shards):
        with h5py.File(folder / "shards" / f"s{k:04}.h5", "w") as file:
            file.create_dataset("x", data=draws.standard_normal((20, 64)).astype("f4"), chunks=(5, 64), compression="gzip")
            file["y"] = draws.integers(0, 10, 20)


def opens(folder, shards):
    config = write_config(folder, folder / "shards" / "*.h5", "steps = 1")
    for start in ("first start", "second start"):
        for trace in folder.glob("trace*"):
            trace.unlink()
        strace = ["strace", "-f", "-ff", "-qq", "-e", "trace=open,openat,openat2", "-o", folder / "trace"]
        done = subprocess.run(ranks(2, *strace, HADAL, "train", config, "--set", f"run.dir={folder}/run-opens"),
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        counts = collections.Counter()
        for trace in folder.glob("trace*"):
            counts.update(re.findall(r"/(s\d{4}\.h5)", trace.read_text()))
        # A step reads a hundred samples, of as many shards at most.
        print(f"{shards} shards, {start}: {sum(counts.values())} opens of {len(counts)} shards with the first step's reading; "
              f"{sum(1 for count in counts.values() if count == 1)} of them once, at most {max(counts.values())}", flush=True)
        if start == "first start":
            for folder_of_state in ("checkpoints", "model"):
                subprocess.run(["rm", "-rf", str(folder / "run-opens" / folder_of_state)], check=True)


def state_of(process):
    """(resident KiB, open files) of each rank."""
    found = []
    for status in pathlib.Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
            if "\nPPid:\t%d\n" % process in text:
                found.append((int(re.search(r"VmRSS:\s+(\d+)", text)[1]), len(list((status.parent / "fd").iterdir()))))
        except (OSError, TypeError):
            pass
    return found


def epochs(folder, count):
    config = write_config(folder, folder / "shards" / "*.h5", f"epochs = {count}")
    process = subprocess.Popen(ranks(2, HADAL, "train", config, "--set", f"run.dir={folder}/run-epochs"),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = folder / "run-epochs" / "metrics.jsonl"
    samples = {}
    while process.poll() is None:
        time.sleep(0.05)
        if metrics.exists():
            lines = metrics.read_text().count('"kind":"train"')
            epoch = lines // 100
            state = state_of(process.pid)
            if len(state) == 2:
                samples[epoch] = state
    assert process.returncode == 0
    if not samples:
        sys.exit("no sample of the processes was taken")
    tenth = min((e for e in samples if e >= count // 10), default=min(samples))
    last = max((e for e in samples if e < count), default=tenth)
    for name, at in {"after": tenth, "at the end of": last}.items():
        resident = ", ".join(f"{kib / 1024:.1f} MiB with {files} open files" for kib, files in samples[at])
        print(f"{name} epoch {at}: {resident}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chunks", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=50)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        index(folder, arguments.chunks, arguments.rounds)
        make_shards(folder, arguments.shards)
        opens(folder, arguments.shards)
        epochs(folder, arguments.epochs)


if __name__ == "__main__":
    main()
