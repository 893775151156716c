"""How often each byte of the data is read from where it lies, by four ranks on two hosts (network namespaces).

    sudo .deps/venv/bin/python benchmarks/staging.py

One epoch of a training, with copies on each host (data.stage) and without, every read of the ranks traced by strace:
/proc/PID/io would count what comes over the network too. Needs root, iproute2, strace and build/dev."""

import collections
import pathlib
import re
import subprocess
import tempfile

import h5py
import numpy

from network import HADAL, Hosts

FILES, ROWS, SHAPE = 4, 640, (3, 64, 64)
CONFIG = """[data]
train = "{folder}/shared/*.h5"
shuffle = "full"
memory = "1MiB"
inputs.x.path = "x"
targets.y.path = "y"
[model]
kind = "convnet"
options = {{ classes = 10 }}
[objective]
loss = "cross_entropy"
[train]
epochs = 1
global_batch = 64
micro_batch = 16
[optimizer]
kind = "sgd"
lr = 0.01
"""


def make(folder):
    (folder / "shared").mkdir()
    draws = numpy.random.default_rng(1)
    for k in range(FILES):
        with h5py.File(folder / "shared" / f"{k}.h5", "w") as file:
            file["x"] = draws.standard_normal((ROWS, *SHAPE)).astype("f4")
            file["y"] = draws.integers(0, 10, ROWS)
    (folder / "run.toml").write_text(CONFIG.format(folder=folder))
    return sum(path.stat().st_size for path in (folder / "shared").iterdir())


def reads(folder, hosts, name, *settings):
    """Bytes that all ranks together have read, of the shared files and of the hosts' copies."""
    for trace in folder.glob("trace*"):
        trace.unlink()
    calls = "trace=read,pread64,readv,preadv,preadv2,io_uring_enter"
    strace = ["strace", "-f", "-ff", "-qq", "-y", "-s", "0", "-e", calls, "-o", folder / "trace"]
    command = hosts.command(2, *strace, HADAL, "train", folder / "run.toml", "--set", f"run.dir={folder}/{name}", *settings)
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    bytes_of = collections.Counter()
    for trace in folder.glob("trace*"):
        for call in re.finditer(r"^(\w+)\(\d+<([^>]*)>.*= (\d+)$", trace.read_text(), re.MULTILINE):
            path = call[2]
            if call[1] == "io_uring_enter":
                raise SystemExit("some reads went through io_uring, which cannot be traced: the files must be in the cache")
            where = ("shared" if path.startswith(f"{folder}/shared/") else
                     "copies" if path.startswith(f"{folder}/own/") else None)
            if where:
                bytes_of[where] += int(call[3])
    return bytes_of


def main():
    with tempfile.TemporaryDirectory() as temporary, Hosts(2, 10_000) as hosts:
        folder = pathlib.Path(temporary)
        total = make(folder)
        (folder / "own").mkdir()
        models = []
        for name, settings in {"plain": (), "staged": ("--set", f"data.stage={folder}/own")}.items():
            found = reads(folder, hosts, name, *settings)
            print(f"{name:<7} 4 ranks on 2 hosts, one epoch of {total} bytes: {found['shared'] / total:.4f} times the shared "
                  f"files, {found['copies'] / total:.4f} times the copies", flush=True)
            models.append((folder / name / "model" / "model.safetensors").read_bytes())
        assert models[0] == models[1], "the models differ"


if __name__ == "__main__":
    main()
