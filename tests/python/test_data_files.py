"""A split as people have it on a shared disk: many files, odd names, files that are empty, cut off, left open or gone."""

import json
import os
import re
import shutil
import subprocess
import sys

import h5py
import numpy
import pytest
from conftest import HADAL, ROOT

MODEL = '[model]\nkind = "mlp"\noptions = { classes = 4, hidden = [5] }\n'
TRAIN = '[train]\n{length}\nglobal_batch = {batch}\nmicro_batch = {micro}\n[optimizer]\nkind = "sgd"\nlr = 0.1\n'


def rest(length="steps = 4", batch=8, micro=4):
    return MODEL + TRAIN.format(length=length, batch=batch, micro=micro)


def shard(path, rows, first=0, dtype="f4", labels="i8", **options):
    values = (numpy.arange(first * 3, (first + rows) * 3).reshape(rows, 3) % 7).astype(dtype)
    with h5py.File(path, "w", **options) as file:
        file.create_dataset("x", data=values)
        file["y"] = ((first + numpy.arange(rows)) % 4).astype(labels)


def model(run, name="run"):
    return (run.folder / name / "model" / "model.safetensors").read_bytes()


def test_rows_that_ranks_do_not_share_evenly_come_once_an_epoch(run):
    shard(run.folder / "train.h5", 145)
    run.config("drop_last = false\n" + rest("epochs = 2", batch=48, micro=16))
    steps = run.order(8)
    epoch = [i for (step, _), ids in sorted(steps.items()) if step < 4 for i in ids]
    assert sorted(epoch) == list(range(145))
    hashes = set()
    for ranks in (1, 3):
        run.hadal("train", "--set", f"run.dir=r{ranks}", ranks=ranks)
        hashes.add(model(run, f"r{ranks}"))
    assert len(hashes) == 1


def test_byte_order_and_width_of_stored_numbers_change_no_bit(run):
    kinds = {"native": ("f4", "i8"), "big-endian": (">f4", ">i8"), "wide": ("f8", "u1"), "half": ("f2", "<u2"),
             "integers": ("i2", "f4")}
    hashes = set()
    for name, (dtype, labels) in kinds.items():
        shard(run.folder / "train.h5", 40, dtype=dtype, labels=labels)
        run.config(rest())
        run.hadal("train", "--set", f"run.dir={name}")
        hashes.add(model(run, name))
    assert len(hashes) == 1
    shard(run.folder / "train.h5", 40, dtype="u1")
    assert "uint8 and taken as 0 to 255" in run.hadal("check", "--data").stderr


def test_empty_files_are_left_out_and_more_ranks_than_files_are_fine(run):
    for k, rows in enumerate((20, 0, 30)):
        shard(run.folder / f"s_{k}.h5", rows, first=20 * (k > 0))
    run.config(rest(batch=16))
    done = run.hadal("train", "--set", "data.train='s_*.h5'", "--set", "run.dir=all", ranks=4)
    assert "s_1.h5:/x has no rows" in done.stderr
    (run.folder / "s_1.h5").unlink()
    run.hadal("train", "--set", "data.train='s_*.h5'", "--set", "run.dir=without")
    assert model(run, "all") == model(run, "without")
    for k in (0, 2):
        shard(run.folder / f"s_{k}.h5", 0)
    assert "no samples" in run.hadal("train", "--set", "data.train='s_*.h5'", "--set", "run.dir=none", code=65).stderr


def test_every_damaged_file_of_many_is_listed_before_the_first_step(run):
    for k in range(9):
        shard(run.folder / f"s_{k}.h5", 20)
    for k in (2, 5, 8):
        os.truncate(run.folder / f"s_{k}.h5", (run.folder / f"s_{k}.h5").stat().st_size - 500)
    run.config(rest())
    texts = [run.hadal(*verb, "--set", "data.train='s_*.h5'", ranks=ranks, code=65).stderr
             for verb, ranks in ((("train",), 1), (("train",), 3), (("check", "--data"), 1))]
    for text in texts:
        assert re.findall(r"s_(\d)\.h5 is cut off: it has (\d+) bytes, its superblock says (\d+)", text)
        assert [m for m in re.findall(r"s_(\d)\.h5 is cut off", text)] == ["2", "5", "8"]
        assert text.count("hadal: ") == 1 or "3 faults in the data" in text
    assert not list((run.folder / "run").glob("checkpoints/step*"))


def test_a_file_that_its_writer_left_open_is_named_with_the_cure(run):
    shard(run.folder / "train.h5", 40)
    write = ("import h5py, os, signal, sys; f = h5py.File(sys.argv[1], 'a', libver=('v110', 'v110')); f['z'] = 1; f.flush(); "
             "os.kill(os.getpid(), signal.SIGKILL)")
    with h5py.File(run.folder / "train.h5", "w", libver=("v110", "v110")) as file:
        file["x"] = numpy.zeros((40, 3), "f4")
        file["y"] = numpy.zeros(40, "i8")
    subprocess.run([sys.executable, "-c", write, str(run.folder / "train.h5")], check=False)
    run.config(rest())
    text = run.hadal("train", code=65).stderr
    assert "marked as open for writing" in text and f"h5clear -s '{run.folder}/train.h5'" in text


@pytest.mark.parametrize("name", ["s 0.h5", "s;1.h5", "ü.h5", "[v1] 100%.h5", "$HOME.h5", "it's.h5", "a\\b.h5"])
def test_names_that_a_shell_would_take_apart(run, name):
    folder = run.folder / "my data [v1] 100%"
    folder.mkdir()
    shard(folder / name, 40)
    # Beside it what a pattern would take for it.
    (folder / (name + ".tmp")).write_text("half")
    run.config(rest())
    for setting in (json.dumps(str(folder / name)), json.dumps("my data*/*.h5")):
        run.hadal("train", "--set", f"data.train={setting}", "--set", f"run.dir={json.dumps(str(run.folder / 'r'))}", ranks=2)
        shutil.rmtree(run.folder / "r")
    text = run.hadal("train", "--set", 'data.train="my data*/none-*.h5"', code=65).stderr
    assert "no file matches" in text and "none-*.h5" in text


SHIM = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
/* Rank 1 sees every folder in the reverse order. */
static struct dirent *held[4096];
static int count, at;
static DIR *of;
struct dirent *readdir(DIR *folder) {
  struct dirent *(*next)(DIR *) = (struct dirent * (*)(DIR *)) dlsym(RTLD_NEXT, "readdir");
  const char *rank = getenv("OMPI_COMM_WORLD_RANK");
  if (rank == NULL || strcmp(rank, "1") != 0) return next(folder);
  if (of != folder || at == count) {
    of = folder;
    count = at = 0;
    for (struct dirent *one; count < 4096 && (one = next(folder)) != NULL;) {
      held[count] = malloc(one->d_reclen);
      memcpy(held[count++], one, one->d_reclen);
    }
    if (count == 0) return NULL;
  }
  return held[count - ++at];
}
"""


def test_the_order_in_which_a_host_lists_a_folder_changes_nothing(run):
    (run.folder / "shim.c").write_text(SHIM)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", run.folder / "shim.so", run.folder / "shim.c", "-ldl"], check=True)
    for k in range(6):
        shard(run.folder / f"s_{k}.h5", 8 + k, first=11 * k)
    run.config(rest())
    for name, preload in {"plain": {}, "reversed": {"LD_PRELOAD": str(run.folder / "shim.so")}}.items():
        command = ["bash", str(ROOT / "tests" / "mpi" / "mpirun.sh"), "2", "env", *(f"{k}={v}" for k, v in preload.items()),
                   HADAL, "train", str(run.folder / "run.toml"), "--set", "data.train='s_*.h5'", "--set", f"run.dir={name}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=run.folder)
        assert done.returncode == 0, done.stderr
    assert model(run, "plain") == model(run, "reversed")


def test_large_chunks_are_decoded_once_an_epoch_though_rows_are_shuffled(run):
    values = numpy.random.default_rng(1).integers(0, 9, (20000, 200)).astype("f4")
    with h5py.File(run.folder / "train.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=(500, 200), compression="gzip")
        file["y"] = numpy.arange(20000) % 4
    run.config(rest("epochs = 1", batch=64, micro=32))
    for shuffle in ("full", "block", "auto"):
        command = [HADAL, "bench", "read", run.folder / "run.toml", "--rounds", "1", "--json", "--steps", "100000",
                   "--set", f"data.shuffle={shuffle}", "--set", 'data.memory="12MiB"' if shuffle == "block" else "data.readers=2"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = json.loads(text.strip().splitlines()[-1])
        assert found["decoded_bytes"] <= 1.2 * found["sample_bytes"], shuffle
