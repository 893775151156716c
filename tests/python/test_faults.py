"""What happens to long jobs: full disks, damaged files, kills inside a save, signals, the end of the allocation."""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import time

import h5py
import numpy
import pytest
from conftest import FAULTS, HADAL, ROOT

CONFIG = """[model]
kind = "mlp"
options = {{ classes = 4, hidden = [8], dropout = 0.2 }}
[objective]
metrics = ["accuracy"]
[train]
steps = {steps}
global_batch = 8
micro_batch = 2
ema = 0.9
evaluate_every = "{evaluate}"
[optimizer]
kind = "adamw"
lr = 0.01
[checkpoint]
every = "{every}"
keep = {keep}
"""


def start(run, steps=8, every="2st", keep=2, evaluate="4st", rows=64):
    draws = numpy.random.default_rng(1)
    run.fields(x=draws.standard_normal((rows, 6)).astype("f4"), y=numpy.arange(rows) % 4)
    run.config('valid = "train.h5"\ninputs.x.path = "x"\ntargets.y.path = "y"\n'
               + CONFIG.format(steps=steps, every=every, keep=keep, evaluate=evaluate), "")


def model(run, name="run"):
    return (run.folder / name / "model" / "model.safetensors").read_bytes()


def steps_of(folder):
    return sorted(int(path.name[5:]) for path in (folder / "checkpoints").glob("step-?????????"))


def status(run, name="run"):
    return json.loads((run.folder / name / "status.json").read_text())


def test_checkpoints_that_stay(run):
    start(run, steps=13)
    run.hadal("train", "--set", 'checkpoint.keep_every="4st"')
    assert steps_of(run.folder / "run") == [4, 8, 12, 13]


def under(faults, run, *settings, ranks=2):
    """The command that starts a run whose calls to the system fail, or take their time (launch/faults)."""
    return ["bash", str(ROOT / "tests" / "mpi" / "mpirun.sh"), str(ranks), "env", f"LD_PRELOAD={FAULTS}",
            f"HADAL_FAULTS={faults}", HADAL, "train", str(run.folder / "run.toml"), *settings]


def failing(run, calls, part, number, *settings, ranks=2, code=0):
    command = under(f"calls={calls} path={part} error={number}", run, *settings, ranks=ranks)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=run.folder)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr


@pytest.mark.parametrize("calls, number, reason", [
    ("fallocate", 28, "MiB, .* MiB are free .No space left on device"), ("fallocate", 122, "Disk quota exceeded"),
    ("pwrite", 28, "No space left on device"), ("fsync", 5, "cannot sync .*: Input/output error"),
    ("pwrite", 116, "Stale file handle"), ("pwrite", 30, "Read-only file system")])
def test_a_disk_that_refuses_a_checkpoint_costs_no_more_than_that(run, calls, number, reason):
    start(run)
    run.hadal("train", "--set", "run.dir=whole")
    # By default the run ends, with what it has.
    text = failing(run, calls, "step-000000004", number, "--set", "run.dir=stops", code=74)
    assert re.search(reason, text) and "step-000000004" in text, text
    assert text.count("hadal: storage error") == 1
    assert steps_of(run.folder / "stops") == [2] and status(run, "stops")["code"] == 74
    run.hadal("train", "--set", "run.dir=stops", ranks=3)
    assert model(run, "stops") == model(run, "whole")
    # Or it goes on, and saves the next time.
    text = failing(run, calls, "step-000000004", number, "--set", "run.dir=goes-on", "--set",
                   "checkpoint.on_full=continue")
    assert "no checkpoint of step 4, the run goes on and tries again" in text
    assert re.search(reason, text) and steps_of(run.folder / "goes-on") == [6, 8]
    assert not list((run.folder / "goes-on" / "checkpoints").glob("*.partial"))
    assert model(run, "goes-on") == model(run, "whole")
    events = [json.loads(line) for line in (run.folder / "goes-on" / "metrics.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event.get("event") == "failed_checkpoint"] == [4]


def test_a_disk_that_is_full_from_the_start_is_told_before_the_first_step(run):
    if os.getuid() != 0:
        pytest.skip("needs root: a small file system is mounted")
    small = run.folder / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", small], check=False)
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        start(run)
        wide = ("--set", "model.options.hidden=[4096]", "--set", f'run.dir="{small}/run"')
        text = run.hadal("train", *wide, code=74).stderr
        assert re.search(r"a checkpoint takes [\d.]+ MiB, 0\.\d MiB are free at", text), text
    finally:
        subprocess.run(["umount", small], check=True)


def test_every_damage_to_a_checkpoint_is_found_and_the_one_before_is_taken(run):
    start(run, steps=8, every="4st")
    run.hadal("train")
    expected = model(run)
    draws = random.Random(5)
    newest = run.folder / "run" / "checkpoints" / "step-000000008"
    keep = run.folder / "keep"
    shutil.copytree(run.folder / "run", keep)
    for turn in range(36):
        shutil.rmtree(run.folder / "run")
        shutil.copytree(keep, run.folder / "run")
        file = sorted(newest.iterdir())[turn % 3]
        content = bytearray(file.read_bytes())
        if turn % 4 == 3:
            del content[draws.randrange(len(content)):]
        elif turn % 4 == 2:
            content += b"\0x"
        else:
            content[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
        file.write_bytes(content)
        done = run.hadal("train")
        assert "passed over: checkpoint" in done.stderr, (file, turn)
        assert "resuming at step 4" in done.stderr and file.parent.name in done.stderr
        assert model(run) == expected


def test_what_is_no_whole_checkpoint_is_passed_over_by_name(run):
    start(run, steps=8, keep=4)
    run.hadal("train")
    expected = model(run)
    folder = run.folder / "run" / "checkpoints"
    shutil.rmtree(run.folder / "run" / "model")
    shutil.rmtree(folder / "step-000000008")
    # Numbers compare as numbers; what a broken copy or a person left is not one of ours.
    shutil.copytree(folder / "step-000000004", folder / "step-900")
    shutil.copytree(folder / "step-000000006", folder / "step-000000006.bak")
    shutil.copytree(folder / "step-000000006", folder / "step-000000007")
    (folder / "step-000000007" / "manifest.json").unlink()
    (folder / "step-abc").mkdir()
    for name in ("latest", "step-000009999"):
        (folder / name).symlink_to("nowhere")
    told = run.hadal("train").stderr
    assert "resuming at step 6" in told and model(run) == expected, told
    for name in ("step-900", "step-000000006.bak", "step-000000007", "step-abc", "latest", "step-000009999"):
        assert re.search(f"passed over: .*{re.escape(name)}\\b", told), (name, told)


CALLS = "mkdir,openat,fallocate,ftruncate,pwrite64,fsync,close,rename,unlink,unlinkat,rmdir,newfstatat"


def trace_of(run, name, *options):
    path = run.folder / name / "checkpoints"
    files = [path, *(path / f"step-000000004{end}" for end in ("", ".partial"))]
    files += [path / "step-000000004.partial" / file for file in
              ("model.safetensors", "optimizer.safetensors", "manifest.json")]
    only = [word for file in files for word in ("-P", file)]
    command = ["strace", "-f", "-qq", "-o", run.folder / "trace", *options, *only, HADAL, "train", run.folder / "run.toml",
               "--set", f"run.dir={run.folder}/{name}", "--set", "run.workers=1"]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, cwd=run.folder)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_kill_at_any_system_call_of_a_save_leaves_a_whole_checkpoint(run):
    start(run, steps=6, evaluate="100st")
    run.hadal("train", "--set", "run.dir=whole", "--set", "run.workers=1")
    expected = model(run, "whole")
    done = trace_of(run, "traced", "-e", f"trace={CALLS}")
    assert done.returncode == 0, done.stderr
    calls = re.findall(r"^\d+\s+(\w+)\(", (run.folder / "trace").read_text(), re.MULTILINE)
    counts = {call: calls.count(call) for call in dict.fromkeys(calls)}
    assert {"mkdir", "openat", "pwrite64", "fsync", "rename"} <= set(counts), counts
    killed = resumed = 0
    for call, count in counts.items():
        for number in range(1, count + 1):
            name = f"{call}-{number}"
            done = trace_of(run, name, "-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={number}")
            if done.returncode == 0:
                continue
            killed += 1
            # What is whole has its final name.
            whole = [step for step in range(1, 7)
                     if (run.folder / name / "checkpoints" / f"step-{step:09}" / "manifest.json").exists()]
            again = run.hadal("train", "--set", f"run.dir={name}", "--set", "run.workers=1")
            assert model(run, name) == expected, name
            found = re.search(r"resuming at step (\d+)", again.stderr)
            assert (int(found[1]) if found else 0) == max(whole, default=0), (name, again.stderr)
            resumed += bool(whole)
            assert not list((run.folder / name / "checkpoints").glob("*.partial"))
            shutil.rmtree(run.folder / name)
    assert killed >= 15 and resumed >= 10, (killed, resumed, counts)


def launch(run, *settings, ranks=2, **environment):
    command = ["bash", str(ROOT / "tests" / "mpi" / "mpirun.sh"), str(ranks), HADAL, "train", str(run.folder / "run.toml"),
               *settings]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=run.folder,
                            env={**os.environ, **environment})


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def test_a_chain_of_jobs_limited_in_time_ends_with_the_same_bits(run):
    # Far more than three lives have time for, however fast the machine is.
    steps = 12000
    start(run, steps=steps, every="100000st", evaluate="3000st")
    run.hadal("train", "--set", "run.dir=whole", ranks=2)
    stops = set()
    for life in range(60):
        done = launch(run, "--set", "run.dir=chain", "--set", 'run.deadline="0.3s"', ranks=1 + life % 3)
        text = "".join(done.communicate())
        assert done.returncode == 75, text
        assert status(run, "chain")["reason"] == "time" and "stopped: step" in text
        # A life may be over before its first step.
        stops.add(status(run, "chain")["step"])
        if len(stops - {0}) >= 3:
            break
    assert len(stops - {0}) >= 3
    run.hadal("train", "--set", "run.dir=chain", ranks=3)
    assert model(run, "chain") == model(run, "whole")
    seen = [json.loads(line) for line in (run.folder / "chain" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in seen if line["kind"] == "train"] == list(range(1, steps + 1))


def test_slurm_is_asked_for_the_end_of_its_job(run):
    start(run, steps=2000000, every="1000000st", evaluate="1000000st")
    library = str(pathlib.Path(os.environ["DUMP_ROWS"]).parent / "fake_slurm")
    # The margin that is left for the end of the job is half a minute.
    done = launch(run, SLURM_JOB_ID="4711", LD_LIBRARY_PATH=library, FAKE_SLURM_SECONDS="32")
    text = "".join(done.communicate(timeout=60))
    assert done.returncode == 75 and status(run)["reason"] == "time" and status(run)["step"] > 0, text
    # Where it does not tell, the run goes on and says so, once for all ranks.
    done = launch(run, "--set", "train.steps=4", "--set", "run.dir=other", SLURM_JOB_ID="4712", LD_LIBRARY_PATH=library)
    text = "".join(done.communicate(timeout=60))
    assert done.returncode == 0, text
    assert text.count("the end of Slurm's job 4712 is not known here (Slurm does not tell)") == 1, text


def test_a_stop_cuts_an_evaluation_short_and_the_next_start_makes_up_for_it(run):
    start(run, steps=40, every="1000st", evaluate="20st", rows=12000)
    run.hadal("train", "--set", "run.dir=whole")
    cut = 0
    for turn in range(4):
        name = f"cut-{turn}"
        process = launch(run, "--set", f"run.dir={name}", ranks=1 + turn % 3)
        wait_for(run.folder / name / "metrics.jsonl", process)
        while '"step":20' not in (run.folder / name / "metrics.jsonl").read_text():
            assert process.poll() is None
        time.sleep(0.002 * turn)
        subprocess.run(["pkill", "-USR1", "-f", f"^{HADAL} train .*run.dir={name}$"], check=True)
        process.communicate()
        assert process.returncode == 75
        step = steps_of(run.folder / name)[-1]
        folder = run.folder / name / "checkpoints" / f"step-{step:09}"
        cut += json.loads((folder / "manifest.json").read_text())["run"]["progress"]["evaluation_due"]
        run.hadal("train", "--set", f"run.dir={name}", ranks=1 + (turn + 1) % 3)
        assert model(run, name) == model(run, "whole")
        lines = [json.loads(line) for line in (run.folder / name / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines if line["kind"] == "valid"] == [20, 40]
    assert cut >= 1


def test_a_stop_before_the_first_step_is_a_stop(run):
    start(run, steps=4000, every="100000st", evaluate="2000st")
    end = str(time.time() + 5)
    process = launch(run, HADAL_END_TIME=end)
    out, err = process.communicate()
    assert process.returncode == 75 and "stopped: step 0, checkpoint none new" in out, out + err
    assert status(run)["reason"] == "time"
    run.hadal("train", "--set", "train.steps=4")


@pytest.mark.parametrize("phase", ["scan", "stage"])
def test_a_stop_ends_what_comes_before_the_first_step(run, phase):
    """Each read of the data takes a while, so that the phase is long."""
    draws = numpy.random.default_rng(1)
    start(run, steps=8)
    for k in range(300 if phase == "scan" else 80):
        run.fields(x=draws.standard_normal((64, 6)).astype("f4"), y=numpy.arange(64) % 4)
        (run.folder / "train.h5").rename(run.folder / f"part-{k:03}.h5")
    own = run.folder / "own"
    own.mkdir()
    settings = ["--set", 'data.train="part-*.h5"', "--set", "data.valid=[]"]
    if phase == "stage":
        settings += ["--set", f'data.stage="{own}"']
    command = under("calls=pread path=part- delay=20", run, *settings)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=run.folder)
    if phase == "stage":
        while not list(own.glob("*/*.h5")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
    else:
        wait_for(run.folder / "run" / "status.json", process)
        time.sleep(1)
    began = time.time()
    # To one of them only.
    os.kill(pids_of(run)[0], signal.SIGUSR1)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75 and time.time() - began < 5, out + err
    assert "stopped: step 0" in out and status(run)["reason"] == "usr1"
    assert not list(own.iterdir())


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_says_which_rank_and_where(run, number):
    start(run, steps=200000, every="100000st", evaluate="100000st")
    process = launch(run, ranks=3)
    wait_for(run.folder / "run" / "metrics.jsonl", process)
    time.sleep(0.3)
    pids = subprocess.run(["pgrep", "-f", f"^{HADAL} train {run.folder}"], capture_output=True, text=True, check=True)
    victim = int(pids.stdout.split()[-1])
    os.kill(victim, number)
    _, err = process.communicate(timeout=30)
    assert process.returncode not in (0, 75)
    found = re.findall(rf"hadal: bug: {number.name} \(rank (\d) on .*, train, after step (\d+)\)", err)
    assert len(found) == 1 and int(found[0][1]) > 0, err


def test_retention_never_touches_the_newest(run):
    start(run, steps=6, keep=1)
    run.hadal("train")
    assert steps_of(run.folder / "run") == [6]
    assert pathlib.Path(status(run)["checkpoint"]).name == "step-000000006"


def pids_of(run):
    """Of all ranks, in the order of their starts."""
    found = subprocess.run(["pgrep", "-f", f"^{HADAL} train {run.folder}"], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


@pytest.mark.parametrize("ranks", [2, 4])
def test_a_rank_that_stands_still_is_named_and_ends_the_run(run, ranks):
    start(run, steps=200000, every="100000st", evaluate="100000st")
    process = launch(run, "--set", 'run.collective_timeout="2s"', ranks=ranks)
    wait_for(run.folder / "run" / "metrics.jsonl", process)
    time.sleep(0.3)
    victim = pids_of(run)[1]
    number = re.search(rb"OMPI_COMM_WORLD_RANK=(\d+)", pathlib.Path(f"/proc/{victim}/environ").read_bytes())[1].decode()
    os.kill(victim, signal.SIGSTOP)
    began = time.time()
    _, err = process.communicate(timeout=60)
    assert time.time() - began < 12 and process.returncode == 76, err
    assert err.count("hadal: peer error") == 1, err
    assert re.search(rf"waited \d+ s for rank {number} on .*, whose process has stopped or gone \d+ s ago \(train, after", err), err
    told = status(run)
    assert told["code"] == 76 and told["reason"] == "peer" and f"for rank {number} on" in told["message"]
    assert not pids_of(run)
    # Nothing is lost: the next start goes on.
    run.hadal("train", "--set", "train.steps=4", "--set", "run.dir=again", ranks=ranks)


def test_a_rank_that_wakes_when_the_others_have_gone_has_nothing_to_tell(run):
    start(run, steps=200000, every="100000st", evaluate="100000st")
    # Its launcher leaves it alone meanwhile, and would end it sooner than it could speak.
    process = launch(run, "--set", 'run.collective_timeout="1s"', ranks=4, OMPI_MCA_orte_abort_on_non_zero_status="0")
    wait_for(run.folder / "run" / "metrics.jsonl", process)
    time.sleep(0.3)
    victim = pids_of(run)[1]
    os.kill(victim, signal.SIGSTOP)
    end = time.time() + 20
    while pids_of(run) != [victim]:
        assert time.time() < end
        time.sleep(0.01)
    os.kill(victim, signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    assert err.count("hadal: peer error") == 1, err


def test_a_rank_that_waits_for_its_disk_is_named_with_what_it_does(run):
    start(run, steps=8)
    command = under("calls=fsync path=step-000000004 delay=100000", run, "--set", 'run.collective_timeout="2s"', ranks=3)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=run.folder, timeout=60)
    assert done.returncode == 76, done.stderr
    assert re.search(r"waited \d+ s for rank 0 on .*, which has been busy for \d+ s \(save, after step 6\)", done.stderr), done.stderr
    assert steps_of(run.folder / "run") == [2] or (run.folder / "run" / "checkpoints" / "step-000000004.partial").exists()
    run.hadal("train", ranks=2)


def test_a_slow_rank_is_no_stuck_one(run):
    start(run, steps=2000000, every="1000000st", evaluate="1000000st")
    process = launch(run, "--set", 'run.collective_timeout="1s"', ranks=2)
    wait_for(run.folder / "run" / "metrics.jsonl", process)
    # Stopped for a while again and again, never as long as the others have patience.
    for _ in range(6):
        victim = pids_of(run)[1]
        os.kill(victim, signal.SIGSTOP)
        time.sleep(0.4)
        os.kill(victim, signal.SIGCONT)
        time.sleep(0.1)
    assert process.poll() is None
    for pid in pids_of(run):
        os.kill(pid, signal.SIGUSR1)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err


def slowed(run, faults, *settings, ranks=2):
    """The command under which the calls of rank 1 alone are slow or fail."""
    script = f'[ "$OMPI_COMM_WORLD_RANK" != 1 ] || export LD_PRELOAD={FAULTS} HADAL_FAULTS="{faults}"; exec "$@"'
    return ["bash", str(ROOT / "tests" / "mpi" / "mpirun.sh"), str(ranks), "bash", "-c", script, "-", HADAL, "train",
            str(run.folder / "run.toml"), *settings]


def chunk_a_sample(run, rows):
    draws = numpy.random.default_rng(1)
    x = draws.standard_normal((rows, 6)).astype("f4")
    with h5py.File(run.folder / "train.h5", "w") as file:
        file.create_dataset("x", data=x, chunks=(1, 6))
        file["y"] = numpy.arange(rows) % 4


def test_a_rank_says_where_it_is_when_others_wait_for_it(run):
    start(run, steps=200000, evaluate="100000st", every="100000st")
    chunk_a_sample(run, 20000)
    command = slowed(run, "calls=pread path=train.h5 from=2000 delay=100000", "--set", "data.valid=[]",
                     "--set", 'data.memory="64KiB"', "--set", 'run.collective_timeout="4s"')
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=run.folder, timeout=120)
    assert done.returncode == 76, done.stderr
    told = re.search(r"warning rank 1 on \S+ \(train, after step (\d+)\) has been busy for \d+ s while others wait:\n"
                     r"((?:  .*\n)+)", done.stderr)
    assert told and int(told[1]) > 0, done.stderr
    assert "  at hadal::engine::Trainer::step" in told[2] and "Loader::next" in told[2], told[2]
    assert "for rank 1 on" in status(run)["message"]


def test_a_slow_rank_is_named_with_the_reason(run):
    start(run, steps=120, evaluate="1000st", every="1000st")
    chunk_a_sample(run, 960)
    command = slowed(run, "calls=pread path=train.h5 delay=30", "--set", "data.valid=[]", "--set", 'data.memory="64KiB"',
                     "--set", "data.readers=1")
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=run.folder, timeout=300)
    assert done.returncode == 0, done.stderr
    assert re.search(r"warning rank 1 on \S+ keeps the others waiting: waiting for data takes it \d+ ms a step, others \d ms",
                     done.stderr), done.stderr
    events = [json.loads(line) for line in (run.folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events if event["kind"] == "event"].count("slow_rank") == 1


def test_a_loss_that_leaps_is_told(run):
    start(run, steps=100, evaluate="1000st", every="1000st", rows=800)
    with h5py.File(run.folder / "train.h5", "r+") as file:
        file["x"][500] = 1e4
    text = run.hadal("train", "--set", "data.valid=[]", "--set", "train.ema=0", "--set", "optimizer.lr=1e-4",
                     "--set", "data.shuffle=\"none\"").stderr
    assert re.search(r"warning the loss of step \d+ is [\d.e+]+, that of the steps before it was 1\.\d+ \(median\)", text), text
