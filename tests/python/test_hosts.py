"""Several hosts: network namespaces of this machine (benchmarks/network.py). Needs root and iproute2."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy
import pytest
from conftest import FAULTS, HADAL, ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
from network import Hosts  # noqa: E402

CONFIG = """[model]
kind = "mlp"
options = {{ classes = 4, hidden = {hidden} }}
[train]
steps = {steps}
global_batch = 24
micro_batch = 2
[optimizer]
kind = "adamw"
lr = 0.001
[checkpoint]
every = "{every}"
"""


@pytest.fixture
def hosts():
    if os.getuid() != 0 or shutil.which("ip") is None or shutil.which("tc") is None:
        pytest.skip("needs root and iproute2")
    try:
        made = Hosts(3, 10_000)
        made.__enter__()
    except (subprocess.CalledProcessError, OSError) as error:
        pytest.skip(f"no network namespaces here: {error}")
    yield made
    made.__exit__()


def start(run, steps, every, hidden="[8]"):
    draws = numpy.random.default_rng(1)
    run.fields(x=draws.standard_normal((240, 6)).astype("f4"), y=numpy.arange(240) % 4)
    run.config('inputs.x.path = "x"\ntargets.y.path = "y"\n' + CONFIG.format(steps=steps, every=every, hidden=hidden), "")


def on_hosts(hosts, run, *settings):
    command = hosts.command(2, HADAL, "train", run.folder / "run.toml", "--set", f'run.dir="{run.folder}/run"', *settings)
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=run.folder)


def processes(run):
    """Process numbers by rank."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if not entry.name.isdigit() or os.readlink(entry / "exe") != str(HADAL):
                continue
            if os.fsencode(run.folder) in (entry / "cmdline").read_bytes():
                rank = re.search(rb"OMPI_COMM_WORLD_RANK=(\d+)", (entry / "environ").read_bytes())
                found[int(rank[1])] = int(entry.name)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("victims, named", [
    ([5], r"rank 5 on hadalnet2, whose process has stopped or gone \d s ago"),
    ([2, 3], r"rank 2 on hadalnet1, a host without a sign of life for \d s .*rank 3 on hadalnet1, a host"),
    ([0, 1], r"rank 0 on hadalnet0, a host without a sign of life for \d s .*rank 1 on hadalnet0, a host")])
def test_hosts_tell_each_other_which_of_them_stands_still(run, hosts, victims, named):
    start(run, steps=2_000_000, every="300st")
    process = on_hosts(hosts, run, "--set", 'run.collective_timeout="4s"')
    began = time.time()
    while not list((run.folder / "run" / "checkpoints").glob("step-?????????/manifest.json")):
        assert process.poll() is None and time.time() - began < 60, process.communicate()
        time.sleep(0.05)
    ranks = processes(run)
    assert sorted(ranks) == list(range(6))
    for victim in victims:
        os.kill(ranks[victim], signal.SIGSTOP)
    began = time.time()
    _, err = process.communicate(timeout=60)
    assert time.time() - began < 20 and process.returncode == 76, err
    told = json.loads((run.folder / "run" / "status.json").read_text())
    assert told["code"] == 76 and re.search(named, told["message"]), told["message"] + err
    assert not processes(run)


def test_several_hosts_write_the_files_of_one(run, hosts):
    start(run, steps=5, every="2st", hidden="[700, 700]")
    run.hadal("train", "--set", "run.dir=alone")
    process = on_hosts(hosts, run)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    for name in ("checkpoints/step-000000004/model.safetensors", "checkpoints/step-000000004/optimizer.safetensors",
                 "model/model.safetensors"):
        assert (run.folder / "run" / name).read_bytes() == (run.folder / "alone" / name).read_bytes(), name
    # Read by three hosts what one has written.
    shutil.rmtree(run.folder / "run")
    run.hadal("train", "--set", "run.dir=run", "--set", "train.steps=5")
    shutil.rmtree(run.folder / "run" / "checkpoints" / "step-000000005")
    (run.folder / "run" / "model" / "model.safetensors").unlink()
    process = on_hosts(hosts, run)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and "resuming at step 4" in err, out + err
    assert (run.folder / "run" / "model" / "model.safetensors").read_bytes() == (
        run.folder / "alone" / "model" / "model.safetensors").read_bytes()


def test_a_save_that_another_host_reads_otherwise_is_none(run, hosts):
    start(run, steps=6, every="2st", hidden="[700, 700]")
    run.hadal("train", "--set", "run.dir=alone")
    # The second host's system gives one byte of what the third has written another value, once.
    faults = "calls=pread path=step-000000004.partial damage=1 count=1"
    script = f'[ "$OMPI_COMM_WORLD_RANK" != 2 ] || export LD_PRELOAD="{FAULTS}" HADAL_FAULTS="{faults}"; exec "$@"'
    command = hosts.command(2, "bash", "-c", script, "-", HADAL, "train", run.folder / "run.toml", "--set",
                            f'run.dir="{run.folder}/run"', "--set", 'checkpoint.on_full="continue"')
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, cwd=run.folder, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("reads back other bytes at") == 1, done.stderr
    assert re.search(r"step-000000004.partial/\S+ reads back other bytes at \d+ than another node has written; its file "
                     "system is not the same on all nodes, or damages files", done.stderr), done.stderr
    kept = sorted(path.name for path in (run.folder / "run" / "checkpoints").iterdir())
    assert kept == ["step-000000002", "step-000000006"], kept
    for name in ("checkpoints/step-000000006/optimizer.safetensors", "model/model.safetensors"):
        assert (run.folder / "run" / name).read_bytes() == (run.folder / "alone" / name).read_bytes(), name
