"""The same run at other places: other processors, less memory, containers. Mount and process namespaces
of this machine stand for them; those need root."""

import json
import os
import re
import shutil
import subprocess

import numpy
import pytest
from conftest import HADAL, ROOT

CONFIG = """[model]
kind = "mlp"
options = {{ classes = 4, hidden = {hidden}, dropout = 0.2 }}
[train]
steps = 8
global_batch = 32
micro_batch = 2
[optimizer]
kind = "adamw"
lr = 0.01
[checkpoint]
every = "2st"
keep = 4
"""
# What ATen, MKL and oneDNN do on a processor of twenty years ago.
OTHER = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"}


def start(run, hidden="[64, 64]"):
    draws = numpy.random.default_rng(1)
    run.fields(x=draws.standard_normal((240, 33)).astype("f4"), y=numpy.arange(240) % 4)
    run.config('inputs.x.path = "x"\ntargets.y.path = "y"\n' + CONFIG.format(hidden=hidden), "")


def model(run, name="run"):
    return (run.folder / name / "model" / "model.safetensors").read_bytes()


def train(run, *settings, ranks=1, code=0, before=(), each=(), environment=None):
    """The log of a training run; `before` starts the launcher, `each` every rank."""
    launcher = ["bash", str(ROOT / "tests" / "mpi" / "mpirun.sh"), str(ranks)] if ranks > 1 else []
    command = [*before, *launcher, *each, HADAL, "train", str(run.folder / "run.toml"), *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=run.folder, timeout=120,
                          env={**os.environ, **(environment or {})})
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr


def on_rank(rank, *variables):
    """Starts a program on each rank, on one of them with these variables."""
    script = f'[ "$OMPI_COMM_WORLD_RANK" != {rank} ] || export "$@"; shift {len(variables)}; exec "$@"'
    return ["bash", "-c", script.replace('"$@"', " ".join(f'"${k + 1}"' for k in range(len(variables))), 1), "-",
            *variables]


def mounted(*lines):
    """Starts a program in a mount namespace of its own, after these lines."""
    if os.getuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and util-linux")
    return ["unshare", "--mount", "bash", "-ec", "\n".join(lines) + '\nexec "$@"', "-"]


def need_two_processors():
    if not {0, 1} <= os.sched_getaffinity(0):
        pytest.skip("needs two processors")


def processor_of(run, step, name="run"):
    return json.loads((run.folder / name / "checkpoints" / f"step-{step:09}" / "manifest.json").read_text())["run"]["processor"]


def go_back_to(run, step, name="run"):
    """As if the run had been killed after this step."""
    shutil.rmtree(run.folder / name / "model")
    for path in (run.folder / name / "checkpoints").glob("step-?????????"):
        if int(path.name[5:]) > step:
            shutil.rmtree(path)


def test_a_run_goes_on_where_another_processor_computes_other_bits(run):
    start(run)
    train(run)
    whole, own = model(run), processor_of(run, 4)
    go_back_to(run, 4)
    told = train(run, "--set", 'run.on_processor_change="stop"', code=69, environment=OTHER)
    assert 'run.on_processor_change is "stop"' in told and "DEFAULT" in told, told
    # Nothing of that start has taken its place.
    assert "warning" not in train(run, "--set", 'run.on_processor_change="stop"') and model(run) == whole
    go_back_to(run, 4)
    told = train(run, environment=OTHER)
    assert re.search(r"warning .*the processor computes other bits than the one before \(.*\): the run goes on, but not "
                     "to the bits of an uninterrupted one", told) and "resuming at step 4" in told, told
    assert model(run) != whole and processor_of(run, 4) == own and "DEFAULT" in processor_of(run, 8) != own
    # Back again it is told again, since the checkpoint knows whose bits it holds.
    go_back_to(run, 6)
    assert "computes other bits" in train(run)


def test_hosts_of_several_processors_are_told(run):
    start(run)
    other = on_rank(1, *(f"{name}={value}" for name, value in OTHER.items()))
    told = train(run, ranks=2, each=other)
    assert told.count("ranks compute other bits from the same numbers: rank 0 ") == 1 and "rank 1 " in told, told
    go_back_to(run, 0)
    told = train(run, "--set", 'run.on_processor_change="stop"', ranks=2, each=other, code=69)
    assert "use nodes of one kind" in told, told


def test_workers_are_as_many_as_the_memory_holds(run):
    need_two_processors()
    start(run, hidden="[1500, 1500, 1500]")
    for cpu in (0, 1):
        (run.folder / f"core{cpu}").write_text(f"{cpu}\n")
    # Two cores, whatever this machine says of its threads.
    cores = [f"mount --bind '{run.folder}'/core{cpu} /sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
             for cpu in (0, 1)] + ["taskset -pc 0,1 $$ >/dev/null"]
    told = train(run, before=mounted(*cores))
    assert "2 workers a rank" in told and "memory for" not in told, told
    whole = model(run)
    (run.folder / "meminfo").write_text("MemAvailable: 204800 kB\n")
    told = train(run, "--set", "run.dir=little", before=mounted(
        *cores, f"mount --bind '{run.folder}'/meminfo /proc/meminfo"))
    assert re.search(r"warning memory for 1 of 2 workers: one needs \d+ MiB of the 200 MiB that a rank on", told), told
    assert model(run, "little") == whole


def test_hardware_threads_are_no_cores(run):
    need_two_processors()
    start(run)
    (run.folder / "siblings").write_text("0-1\n")
    told = train(run, before=mounted(*(
        f"mount --bind '{run.folder}'/siblings /sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        for cpu in (0, 1)), "taskset -pc 0,1 $$ >/dev/null"))
    assert "1 worker a rank" in told, told


def test_a_container_with_little_shared_memory_or_none_computes_the_same_bits(run):
    start(run, hidden="[700, 700]")
    train(run)
    whole = model(run)
    told = train(run, "--set", "run.dir=small", ranks=3, before=mounted("mount -t tmpfs -o size=64k tmpfs /dev/shm"))
    assert model(run, "small") == whole and "share no memory" not in told, told
    # Each rank in a container of its own, in which the others' processes are not seen.
    told = train(run, "--set", "run.dir=alone", ranks=3, each=mounted("exec unshare --pid --fork --mount-proc \"$@\""),
                 environment={"OMPI_MCA_btl": "self,tcp"})
    assert told.count("the ranks of a host share no memory") == 1, told
    assert model(run, "alone") == whole
