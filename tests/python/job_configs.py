"""A config with a [job], and what is rendered of it."""

import subprocess

from conftest import HADAL, ROOT

GOLDEN = ROOT / "tests" / "golden" / "jobs"
CONFIG = """[run]
dir = "/p/runs/r50"
[data]
train = "/p/data/train-*.h5"
valid = "/p/data/valid.h5"
inputs.image.path = "x"
targets.label.path = "y"
[model]
kind = "resnet50"
options = {{ classes = 1000 }}
[train]
epochs = 90
global_batch = 1024
micro_batch = 64
[optimizer]
kind = "sgd"
lr = 0.1
[[optimizer.group]]
match = ["fc.*"]
lr_scale = 10.0
[job]
{job}
"""
NODES = "nodes = 4\nranks_per_node = 4\ncpus_per_rank = 16\ntime = '08:00:00'\n"
FULL = NODES + """gpus_per_node = 4
gpu_type = "a100"
memory_per_node = "240GiB"
queue = "gpu"
account = "abc"
qos = "normal"
constraint = "ib"
reservation = "school"
exclusive = true
mail = "me@example.org"
modules = ["gcc/13", "openmpi/4.1"]
setup = ["export UCX_TLS=rc,cuda"]
hadal = "/opt/hadal/bin/hadal"
environment.NCCL_DEBUG = "WARN"
signal_lead = "10m"
"""


def render(folder, form, job, *more, code=0, as_it_is=False):
    path = folder / "r50.toml"
    path.write_text(CONFIG.format(job=job))
    done = subprocess.run([HADAL, "render", *form.split(), path, "--no-check", *more], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    text = done.stdout if code == 0 else done.stderr
    # The one path that is this machine's.
    return text if as_it_is else text.replace(str(folder), "/p")
