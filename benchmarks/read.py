"""Training data from HDF5 files: hadal's reader against h5py under a DataLoader, in turn, and raw reads.

    .deps/venv/bin/python benchmarks/read.py [CASE …] [--rounds N] [--cold]

Each case is one file of float32 samples of 48 KiB (half of their bits random, so that they compress), read in
shuffled order in batches of 32 without a model. The peer opens its file in each worker and gets its best number
of workers (0, 1 or 2) in an extra round; both read the same number of samples. Beside it H5Dread on one thread, block by block. Prints the medians, the ratio with
its spread, and what share of a plain pread loop over the same bytes hadal reaches (see `hadal bench read`)."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import h5py
import hdf5plugin
import numpy
import torch

ROOT = pathlib.Path(__file__).parent.parent
HADAL = os.environ.get("HADAL", ROOT / "build" / "dev" / "bin" / "hadal")
SHAPE = (3, 64, 64)
BATCH = 32

# samples in the file, samples a chunk, how it is stored, samples the peer reads
CASES = {
    "contiguous": (6000, None, {}, 6000),
    "chunk per sample": (6000, 1, {}, 6000),
    "gzip, chunk per sample": (6000, 1, {"compression": "gzip"}, 2000),
    "gzip, 64 a chunk": (6400, 64, {"compression": "gzip"}, 320),
    "shuffle+lz4, 64 a chunk": (6400, 64, {"shuffle": True, **hdf5plugin.LZ4()}, 640),
    "bitshuffle+zstd, 64 a chunk": (6400, 64, {**hdf5plugin.Bitshuffle(cname="zstd")}, 640),
    "shuffle+lz4, chunk per sample": (6000, 1, {"shuffle": True, **hdf5plugin.LZ4()}, 3000),
    "bitshuffle+zstd, chunk per sample": (6000, 1, {**hdf5plugin.Bitshuffle(cname="zstd")}, 3000),
}


def make(path, rows, chunk, options):
    draws = numpy.random.default_rng(1)
    with h5py.File(path, "w") as file:
        chunks = None if chunk is None else (chunk, *SHAPE)
        x = file.create_dataset("x", (rows, *SHAPE), "f4", chunks=chunks, **options)
        for first in range(0, rows, 64):
            count = min(64, rows - first)
            x[first:first + count] = draws.integers(0, 4096, (count, *SHAPE)) / numpy.float32(4096)
        file["y"] = draws.integers(0, 10, rows)


class Samples(torch.utils.data.Dataset):
    def __init__(self, path):
        self.path = path
        self.file = None
        with h5py.File(path, "r") as file:
            self.rows = len(file["y"])

    def __len__(self):
        return self.rows

    def __getitem__(self, i):
        if self.file is None:
            self.file = h5py.File(self.path, "r")
        return torch.from_numpy(self.file["x"][i]), int(self.file["y"][i])


def peer(path, workers, samples):
    """Samples a second."""
    torch.manual_seed(0)
    loader = torch.utils.data.DataLoader(Samples(path), BATCH, shuffle=True, num_workers=workers)
    start = time.perf_counter()
    done = 0
    for x, _ in loader:
        done += len(x)
        if done >= samples:
            break
    return done / (time.perf_counter() - start)


def config(folder, block):
    path = folder / "run.toml"
    path.write_text(f"""[data]
train = "x.h5"
shuffle = "{'block' if block else 'full'}"
memory = "64MiB"
inputs.x.path = "x"
targets.y.path = "y"
[model]
kind = "mlp"
options = {{ classes = 10 }}
[objective]
loss = "cross_entropy"
[train]
epochs = 1
global_batch = {BATCH}
micro_batch = {BATCH}
[optimizer]
kind = "sgd"
lr = 0.1
""")
    return path


def ours(path, readers, cold, *options):
    command = [HADAL, "bench", "read", str(path), "--rounds", "1", "--steps", "1000000", "--json", "--set",
               f"data.readers={readers}", *(["--cold"] if cold else []), *options]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    result = json.loads(done.stdout.strip().splitlines()[-1])
    return result["samples"] / result["seconds"][0], result["raw_seconds"][0] / result["seconds"][0], result


def forget(path):
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cold", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.cases:
        rows, chunk, options, samples = CASES[name]
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary)
            make(folder / "x.h5", rows, chunk, options)
            os.sync()
            run = config(folder, block=chunk is not None and chunk > 1)
            best = max((0, 1, 2), key=lambda workers: peer(folder / "x.h5", workers, samples))
            theirs, library, one, two, shares = [], [], [], [], []
            for _ in range(arguments.rounds):
                if arguments.cold:
                    forget(folder / "x.h5")
                theirs.append(peer(folder / "x.h5", best, samples))
                # The library's plug-ins for other filters need not be here.
                has = options.get("compression") in (None, "gzip")
                speed, _, result = ours(run, 1, arguments.cold, *(["--library"] if has else []))
                one.append(speed)
                library.append(result["samples"] / result["library_seconds"][0] if has else float("nan"))
                speed, share, result = ours(run, 2, arguments.cold)
                two.append(speed)
                shares.append(share)
            ratios = [a / b for a, b in zip(two, theirs)]
            gb = statistics.median(two) * numpy.prod(SHAPE) * 4 / 1e9
            print(f"{name:<34} h5py, DataLoader of {best} workers {statistics.median(theirs):8.0f} samples/s; H5Dread, 1 thread "
                  f"{statistics.median(library):8.0f}; hadal, 1 reader "
                  f"{statistics.median(one):8.0f}, 2 readers {statistics.median(two):8.0f} ({gb:.2f} GB/s): "
                  f"{statistics.median(ratios):6.2f} times ({min(ratios):.2f} to {max(ratios):.2f}); "
                  f"{statistics.median(shares):.2f} of raw reads ({min(shares):.2f} to {max(shares):.2f}); decoded "
                  f"{result['decoded_bytes'] / result['sample_bytes']:.2f}", flush=True)


if __name__ == "__main__":
    main()
