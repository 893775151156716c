"""Each kind of fault in each phase of a run, on the first rank and on the last: the job ends soon and with the right
code, the cause is told, nothing goes on behind it, and the next start ends with the bits of a run that nobody touched.

A part of the matrix runs by default; all of it with HADAL_WHOLE_MATRIX=1, in about half an hour."""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import time

import numpy
import pytest
from conftest import FAULTS, HADAL, ROOT

RANKS = 3
PHASES = ["start", "scan", "train", "evaluate", "save", "finish"]
KILLS = ["SIGKILL", "SIGSEGV", "SIGABRT", "SIGBUS"]
STOPS = ["SIGTERM", "SIGUSR1", "SIGUSR2"]
# What a call that fails says, by its errno.
ERRORS = {28: "No space left on device", 122: "Disk quota exceeded", 5: "Input/output error", 116: "Stale file handle",
          30: "Read-only file system", 13: "Permission denied"}
CONFIG = """[model]
kind = "mlp"
options = {{ classes = 4, hidden = [8], dropout = 0.2 }}
[train]
steps = {steps}
global_batch = 12
micro_batch = 2
evaluate_every = "{evaluate}"
[optimizer]
kind = "adamw"
lr = 0.01
[checkpoint]
every = "{every}"
"""


def start(run, phase):
    draws = numpy.random.default_rng(1)
    valid = 20_000 if phase == "evaluate" else 16
    run.fields(x=draws.standard_normal((valid, 6)).astype("f4"), y=numpy.arange(valid) % 4)
    (run.folder / "train.h5").rename(run.folder / "valid.h5")
    run.fields(x=draws.standard_normal((48, 6)).astype("f4"), y=numpy.arange(48) % 4)
    # Without a split to choose the best by, the model is written at the end.
    run.config(("" if phase == "finish" else 'valid = "valid.h5"\n') + 'inputs.x.path = "x"\ntargets.y.path = "y"\n'
               + CONFIG.format(steps=4000 if phase == "train" else 9, every="500st" if phase == "train" else "3st",
                               evaluate={"evaluate": "1st", "train": "2000st"}.get(phase, "4st")), "")


# What holds a phase open for two seconds where it is not long by itself, and the sign that it is under way.
HOLD = {
    "start": ("calls=fsync path=/run/status.json count=1 delay=2000", "run/log/rank-0.log"),
    "scan": ("calls=pread path=train.h5 count=1 delay=2000", "run/status.json"),
    "train": ("", "run/metrics.jsonl"),
    "evaluate": ("", "run/metrics.jsonl"),
    "save": ("calls=fsync path=step-000000006.partial count=1 delay=2000", "run/checkpoints/step-000000006.partial"),
    "finish": ("calls=fsync path=/run/model/ count=1 delay=2000", "run/model/*.tmp-*"),
}


def launch(run, faults, settings=()):
    command = ["bash", str(ROOT / "tests" / "mpi" / "mpirun.sh"), str(RANKS), "env", f"LD_PRELOAD={FAULTS}",
               f"HADAL_FAULTS={faults}", HADAL, "train", str(run.folder / "run.toml"), "--set",
               'run.collective_timeout="5s"', *settings]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                            cwd=run.folder)


def ranks_of(run):
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "exe") == str(HADAL) and (
                    os.fsencode(run.folder) in (entry / "cmdline").read_bytes()):
                number = re.search(rb"OMPI_COMM_WORLD_RANK=(\d+)", (entry / "environ").read_bytes())
                found[int(number[1])] = int(entry.name)
        except OSError:
            continue
    return found


def status(run):
    return json.loads((run.folder / "run" / "status.json").read_text())


def reference(run):
    run.hadal("train", "--set", "run.dir=reference")
    return (run.folder / "reference" / "model" / "model.safetensors").read_bytes()


def goes_on(run, expected):
    """The next start, on another number of ranks."""
    run.hadal("train", ranks=2)
    assert (run.folder / "run" / "model" / "model.safetensors").read_bytes() == expected
    assert status(run)["state"] == "done"
    assert not [path for path in (run.folder / "run").rglob("*") if ".partial" in path.name or ".tmp-" in path.name]


def whole():
    return os.environ.get("HADAL_WHOLE_MATRIX") == "1"


def matrix(kinds, phases, ranks):
    cases = [(kind, phase, rank) for kind in kinds for phase in phases for rank in ranks]
    # Every eleventh, so that each kind, each phase and each rank has its turn.
    return cases if whole() else cases[::11]


@pytest.mark.parametrize("kind, phase, rank", matrix(KILLS + STOPS + ["SIGSTOP"], PHASES, [0, RANKS - 1]))
def test_signals(run, kind, phase, rank):
    start(run, phase)
    expected = reference(run)
    faults, sign = HOLD[phase]
    # Saves are waited for, so that they are held open; beside training they are in test_faults.py and in chaos.
    process = launch(run, faults, ["--set", "checkpoint.asynchronous=false"])
    began = time.time()
    while not list(run.folder.glob(sign)):
        assert process.poll() is None and time.time() - began < 60, process.communicate()
        time.sleep(0.01)
    time.sleep(0.3)
    victims = ranks_of(run)
    assert len(victims) == RANKS, process.communicate()
    os.kill(victims[rank], getattr(signal, kind))
    began = time.time()
    out, err = process.communicate(timeout=60)
    took = time.time() - began
    told = status(run) if (run.folder / "run" / "status.json").exists() else {}
    case = (process.returncode, took, told, out, err)
    assert not ranks_of(run), case
    if kind in STOPS:
        assert process.returncode in ((0, 75) if phase in ("train", "evaluate", "finish", "save") else (75,)) and took < 10, case
        if process.returncode == 75:
            assert told["reason"] == kind[3:].lower() and told["state"] == "stopped", case
    elif kind == "SIGSTOP" and told.get("state") == "done":
        # All was on the disk, and only the launcher's end was waited for.
        assert phase == "finish" and took < 20 and "leaves without the others" in err, case
    elif kind == "SIGSTOP":
        assert process.returncode == 76 and took < 20, case
        # A first rank that was stopped in its first words goes on with them when its launcher ends it.
        where = err if phase == "start" else told["message"]
        assert re.search(rf"for (.*; )?rank {rank} on \S+, whose process has stopped or gone", where), case
    else:
        assert process.returncode not in (0, 75) and took < 10, case
        # The others know who it was, once there is a run folder to say so.
        if phase != "start":
            assert told["state"] == "failed" and told["code"] == 76 and told["reason"] == "peer", case
            assert f"has lost rank {rank} on " in told["message"] and "gone without a word" in told["message"], case
        if kind != "SIGKILL":
            assert len(re.findall(rf"hadal: bug: {kind} \(rank {rank} on ", err)) == 1, case
    goes_on(run, expected)


WRITES = {"start": "path=/run/status.json", "save": "path=step-000000006.partial", "finish": "path=/run/model/"}


@pytest.mark.parametrize("number, phase, call", [
    case for case in matrix(ERRORS, WRITES, ["fsync", "pwrite"])])
def test_disks(run, number, phase, call):
    start(run, phase)
    expected = reference(run)
    process = launch(run, f"calls={call} {WRITES[phase]} error={number}")
    out, err = process.communicate(timeout=60)
    case = (process.returncode, out, err)
    assert process.returncode == 74 and not ranks_of(run), case
    errors = re.findall(r"^hadal: storage error: .*$", err, re.MULTILINE)
    assert len(errors) == 1 and ERRORS[number] in errors[0], case
    assert "rank 0 on" in errors[0] and str(run.folder) in errors[0], case
    goes_on(run, expected)


@pytest.mark.parametrize("rank", [0, RANKS - 1])
def test_data_that_cannot_be_read_any_more(run, rank):
    start(run, "train")
    expected = reference(run)
    shutil.copy(run.folder / "train.h5", run.folder / "whole.h5")
    script = f'[ "$OMPI_COMM_WORLD_RANK" != {rank} ] || export LD_PRELOAD={FAULTS} HADAL_FAULTS="calls=pread path=train.h5 error=5"; exec "$@"'
    done = subprocess.run(["bash", str(ROOT / "tests" / "mpi" / "mpirun.sh"), str(RANKS), "bash", "-c", script, "-", HADAL,
                           "train", str(run.folder / "run.toml")], capture_output=True, text=True, check=False,
                          cwd=run.folder, timeout=60)
    assert done.returncode in (65, 74), done.stderr
    assert done.stderr.count("hadal: ") == 1 and "train.h5" in done.stderr and "Input/output error" in done.stderr
    goes_on(run, expected)


@pytest.mark.parametrize("chain", range(20 if whole() else 1))
def test_a_chain_of_stops_has_the_bits_of_one_run(run, chain):
    """Ten stops at random instants, each asked of one of four ranks, each on all at one step."""
    start(run, "train")
    expected = reference(run)
    draws = random.Random(chain)
    stops = 0
    step = 0
    while stops < 10:
        process = subprocess.Popen(
            ["bash", str(ROOT / "tests" / "mpi" / "mpirun.sh"), "4", HADAL, "train", str(run.folder / "run.toml"), "--set",
             "checkpoint.every=\"100000st\""], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
            cwd=run.folder)
        began = time.time()
        # Signals count from the program's first lines on.
        while len(ranks_of(run)) < 4 or not (run.folder / "run" / "status.json").exists() or (
                status(run)["state"] != "running"):
            assert process.poll() is None and time.time() - began < 60, process.communicate()
            time.sleep(0.005)
        time.sleep(draws.random() * 0.4)
        victims = ranks_of(run)
        if victims:
            os.kill(victims[draws.choice(sorted(victims))], draws.choice([signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM]))
        out, err = process.communicate(timeout=60)
        assert process.returncode in (0, 75), out + err
        if process.returncode == 0:
            # It came to its end before.
            assert (run.folder / "run" / "model" / "model.safetensors").read_bytes() == expected
            shutil.rmtree(run.folder / "run")
            step = 0
            continue
        stops += 1
        told = status(run)
        stopped = int(re.search(r"stopped: step (\d+)", out)[1])
        assert told["state"] == "stopped" and told["step"] == stopped >= step, told
        resumed = re.search(r"resuming at step (\d+)", err)
        # It may have been stopped before it looked.
        assert int(resumed[1]) == step if resumed else step in (0, stopped), err
        if stopped > step:
            assert pathlib.Path(told["checkpoint"]).name == f"step-{stopped:09}"
        step = stopped
    goes_on(run, expected)
