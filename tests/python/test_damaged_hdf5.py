"""HDF5 files with bytes changed at random: read, or refused in one line; never a crash or a hang, though the HDF5
library itself crashes on some. HADAL_DAMAGED_FILES says how many."""

import os
import random
import subprocess

import h5py
import numpy
from conftest import HADAL, ROOT
from test_hdf5_files import DUMP

FILES = int(os.environ.get("HADAL_DAMAGED_FILES", "400"))


def whole_files(folder):
    def write(name, libver=None, **options):
        with h5py.File(folder / name, "w", libver=libver) as file:
            file.create_dataset("x", data=numpy.arange(600, dtype="f4").reshape(50, 12), **options)
            file["y"] = numpy.arange(50) % 3

    write("plain.h5")
    write("gzip.h5", chunks=(5, 12), compression="gzip")
    write("latest.h5", chunks=(5, 7), shuffle=True, fletcher32=True, libver="latest")
    write("extendible.h5", chunks=(5, 7), maxshape=(None, None), libver="latest")
    with h5py.File(folder / "variable.h5", "w") as file:
        x = file.create_dataset("x", 50, h5py.vlen_dtype("u1"))
        for k in range(50):
            x[k] = numpy.arange(k * 3 + 1, dtype="u1")
        file["y"] = numpy.arange(50) % 3
    return [path.read_bytes() for path in sorted(folder.glob("*.h5"))]


def damaged(whole, draws):
    content = bytearray(draws.choice(whole))
    for _ in range(draws.randint(1, 6)):
        # Most of a file's structure lies at its front.
        at = draws.randrange(min(len(content), 4096) if draws.random() < 0.8 else len(content))
        match draws.randrange(4):
            case 0:
                content[at] = draws.randrange(256)
            case 1:
                content[at] ^= 1 << draws.randrange(8)
            case 2:
                number = draws.choice([b"\xff" * 8, bytes(8), b"\xff" * 7 + b"\x7f", draws.randbytes(8)])
                content[at:at + 8] = number[:len(content) - at]
            case _:
                if draws.random() < 0.2:
                    del content[max(1, at):]
    return bytes(content)


def test_damaged_files_end_with_an_error_or_are_read(tmp_path):
    draws, whole = random.Random(20261126), whole_files(tmp_path)
    ends = {0: 0, 1: 0, 65: 0}
    for _ in range(FILES):
        (tmp_path / "damaged").write_bytes(damaged(whole, draws))
        done = subprocess.run([DUMP, str(tmp_path / "rows"), "1000000", str(tmp_path / "damaged"), "/x"],
                              capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode in ends, (done.returncode, done.stderr)
        ends[done.returncode] += 1
        if done.returncode == 1:
            assert done.stdout.count("\n") == 1 and ("/damaged" in done.stdout or "/x" in done.stdout), done.stdout
    assert ends[0] > 0 and ends[1] > FILES // 10, ends


def test_many_damaged_files_end_two_ranks_with_their_list(run):
    draws, whole = random.Random(7), whole_files(run.folder)[1:2]
    (run.folder / "all").mkdir()
    for k in range(24):
        (run.folder / "all" / f"{k:02}.h5").write_bytes(damaged(whole, draws) if k % 3 else whole[0])
    run.config('[model]\nkind = "mlp"\noptions = { classes = 3 }\n[objective]\nloss = "cross_entropy"\n[train]\nsteps = 1\n'
               'global_batch = 10\nmicro_batch = 10\n[optimizer]\nkind = "sgd"\nlr = 0.1\n',
               'inputs.x.path = "x"\ntargets.y.path = "y"\n')
    command = ["bash", str(ROOT / "tests" / "mpi" / "mpirun.sh"), "2", HADAL, "stats", str(run.folder / "run.toml"),
               "--set", f'data.train="{run.folder}/all/*.h5"']
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 65, done.stderr
    assert "faults in the data:" in done.stderr and "all/00.h5" not in done.stderr
