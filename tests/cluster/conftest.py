"""A Slurm of two nodes on this machine (cluster.sh), and runs that it is given as jobs."""

import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import time

import pytest

HADAL = os.environ["HADAL"]
ROOT = pathlib.Path(__file__).parents[2]
# Where the nodes see it too: their /tmp is their own.
SCRATCH = pathlib.Path(os.environ["HADAL_SCRATCH"])
if any(SCRATCH.is_relative_to(folder) for folder in ("/tmp", "/var/tmp", "/dev/shm", "/run")):
    pytest.exit(f"{SCRATCH} is each node's own: clone the project to a folder that jobs may run in", returncode=1)
CLUSTER = pathlib.Path(__file__).with_name("cluster.sh")

CONFIG = """[data]
train = "{root}/data/digits/train-*.h5"
valid = "{root}/data/digits/valid-*.h5"
inputs.image = {{ path = "x", scale = 0.0625 }}
targets.digit.path = "y"
[model]
kind = "mlp"
options = {{ classes = 10, hidden = [64, 32], dropout = 0.3 }}
[train]
steps = {steps}
global_batch = 64
micro_batch = 8
evaluate_every = "5000st"
[optimizer]
kind = "adamw"
lr = 1e-3
[checkpoint]
every = "{every}"
[log]
every = "0.3s"
[job]
nodes = 2
ranks_per_node = 2
cpus_per_rank = 1
time = "00:10:00"
hadal = "{hadal}"
"""


class Cluster:
    def __init__(self, folder):
        self.folder = folder
        self.socket = folder / "rest.socket"
        self.pending_since = {}

    def say(self, *words, code=0):
        """A command of Slurm's, and what it prints."""
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout.strip()

    def state(self, job):
        shown = self.say("scontrol", "--oneliner", "show", "job", job)
        return re.search(r"JobState=(\w+)", shown)[1]

    def exit_code(self, job):
        return int(re.search(r"ExitCode=(\d+):", self.say("scontrol", "--oneliner", "show", "job", job))[1])

    def hurry(self, job):
        """A job that is queued again waits two minutes; this one no longer than its nodes refuse it: in the second of its
        end, and while anything of its last life is there."""
        left = [path for path in (self.folder / "spool").glob("*/*") if re.search(rf"[_.]{job}\.", path.name)]
        if left or self.state(job) != "PENDING":
            self.pending_since.pop(job, None)
        elif time.monotonic() > self.pending_since.setdefault(job, time.monotonic()) + 2:
            subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], capture_output=True, check=False)

    def wait(self, job, state="COMPLETED", seconds=300):
        def there():
            self.hurry(job)
            now = self.state(job)
            assert now == state or now not in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"), f"job {job} has ended: {now}"
            return now == state

        until(there, seconds, lambda: self.state(job))

    def node(self, number):
        subprocess.run([CLUSTER, "node", str(number), self.folder], check=True, timeout=60)

    def kill_daemon(self, number):
        """The node's slurmd, but not the jobs that it has started."""
        os.kill(int((self.folder / f"slurmd-n{number}.pid").read_text()), 9)

    def processes(self, number):
        """Of hadal on this node, with their command lines."""
        found = {}
        for pid in subprocess.run(["ip", "netns", "pids", f"hadal-n{number}"], capture_output=True, text=True, check=True).stdout.split():
            try:
                words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].decode() == HADAL:
                found[int(pid)] = words
        return found


def until(there, seconds, tell=lambda: ""):
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, f"not within {seconds} s: {tell()}"
        time.sleep(0.1)


class Job:
    """A run with a config of its own, to be submitted."""

    def __init__(self, folder, cluster, steps, every):
        self.folder, self.cluster = folder, cluster
        self.run = folder / "runs" / "job"
        self.config = folder / "job.toml"
        self.config.write_text(CONFIG.format(root=ROOT, steps=steps, every=every, hadal=HADAL))

    def set(self, section, *lines):
        text = self.config.read_text()
        assert f"[{section}]\n" in text
        self.config.write_text(text.replace(f"[{section}]\n", "\n".join((f"[{section}]", *lines, ""))))

    def hadal(self, verb, *arguments, code=0):
        done = subprocess.run([HADAL, verb, self.config, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    def render(self, form):
        return subprocess.run([HADAL, "render", form, self.config], capture_output=True, text=True, check=True, timeout=120).stdout

    def submit(self, *arguments):
        return self.hadal("submit", *arguments).split()[1]

    def status(self):
        try:
            return json.loads((self.run / "status.json").read_text())
        except FileNotFoundError:
            return {"step": 0, "state": "none"}

    def reaches(self, step, seconds=120):
        until(lambda: self.status()["step"] >= step, seconds, self.output)

    def output(self):
        return "\n".join(path.read_text() for path in sorted((self.run / "log").glob("job-*.out")))

    def words(self):
        """What each life has left: code, reason, step, stalls, oldest first."""
        paths = sorted((self.run / "log").glob("exit-*"), key=lambda path: path.stat().st_mtime_ns)
        return [(int(code), reason, int(step), int(stalls)) for code, reason, step, stalls in (path.read_text().split() for path in paths)]

    def model(self):
        return hashlib.sha256((self.run / "model" / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="session")
def cluster():
    if os.getuid() != 0 or not shutil.which("slurmctld") or not shutil.which("ip"):
        pytest.skip("needs root, Slurm's daemons and iproute2")
    folder = SCRATCH / "slurm"
    shutil.rmtree(SCRATCH, ignore_errors=True)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    try:
        subprocess.run([CLUSTER, "up", folder], check=True, timeout=120)
        yield Cluster(folder)
    finally:
        subprocess.run([CLUSTER, "down", folder], check=True, timeout=60)


@pytest.fixture
def new_job(cluster):
    """Makes jobs, in folders with hostile names; what they leave in the queue is taken out."""

    def make(steps, every, folder=None):
        # A comma would end an option's value, a percent sign a number of the job's, were they not quoted.
        path = SCRATCH / (folder or f"{len(os.listdir(SCRATCH))} 100% it's, \"so\"")
        path.mkdir()
        return Job(path, cluster, steps, every)

    yield make
    subprocess.run(["scancel", "--me"], check=True)
    until(lambda: not cluster.say("squeue", "--noheader", "--states=all", "--format=%T").replace("COMPLETING", "!").count("!"), 60)


@pytest.fixture(scope="session")
def reference():
    """The model of the same config on one rank without Slurm."""
    made = {}

    def of(steps):
        if steps not in made:
            folder = SCRATCH / f"reference-{steps}"
            folder.mkdir(parents=True)
            job = Job(folder, None, steps, "1000000st")
            subprocess.run([HADAL, "train", job.config], capture_output=True, check=True, timeout=300)
            made[steps] = job.model()
        return made[steps]

    return of
