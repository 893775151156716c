"""Runs as jobs, without a batch system: every form against files that were read line by line, what is refused and why, and
what is said when a service does not answer as it should. To make the files anew: HADAL_WRITE_GOLDEN=1, then read the difference.
"""

import base64
import http.server
import json
import os
import pathlib
import re
import subprocess
import threading

import jsonschema
import numpy
import pytest
import yaml
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
CASES = {
    "slurm": ("slurm", FULL + 'native = ["--comment=a b"]\npass_env = ["SECRET_TOKEN"]\ndoctor = true\n'),
    "slurm-small": ("slurm", "cpus_per_rank = 8\ntime = '30m'\n"),
    "slurm-mpirun": ("slurm", NODES + 'launcher = "mpirun"\non_stop = "chain"\npass_env = ["RCLONE_CONFIG"]\n'
                     'stage_in = [["share:data", "/scratch/data"]]\nstage_out = [["/p/runs/r50", "share:runs/r50"]]\n'),
    "slurm-container": ("slurm", NODES + 'gpus_per_node = 4\ncontainer = { image = "/p/im/hadal.sif", bind = ["/scratch"], options = ["--rocm"] }\n'
                        'on_stop = "exit"\n'),
    "slurm-udocker": ("slurm", "cpus_per_rank = 8\ntime = '30m'\ncontainer = { image = 'hadal', runtime = 'udocker' }\n"),
    "qcg": ("qcg", FULL),
    "qcg-rest": ("qcg-rest", FULL),
    "qcg-pilot": ("qcg-pilot", "nodes = 2\nranks_per_node = 4\ncpus_per_rank = 1\ntime = '1h'\nmodules = ['gcc']\nenvironment.A = 'b'\n"),
    "qcg-pilot-one": ("qcg-pilot", "cpus_per_rank = 8\ntime = '1h'\n"),
    "tosca": ("tosca", FULL),
    "tosca-plain": ("tosca", NODES + "gpus_per_node = 4\n"),
    "slurmrestd-38": ("slurmrestd --api 38", FULL),
    "slurmrestd-39": ("slurmrestd --api 39", FULL),
    "slurmrestd-40": ("slurmrestd --api 40", FULL),
    "slurmrestd-41": ("slurmrestd --api 41", FULL),
    "slurmrestd-42": ("slurmrestd --api 42", FULL),
    "firecrest": ("firecrest", FULL),
    "interlink": ("interlink", FULL + "container.image = 'docker://example/hadal:1'\n"),
    "mpijob": ("mpijob", NODES + "gpus_per_node = 4\nmemory_per_node = '64GiB'\nenvironment.A = 'b'\n"
               "container = { image = 'example/hadal:1', bind = ['claim:/p'] }\n"),
}


def render(folder, form, job, *more, code=0, as_it_is=False):
    path = folder / "r50.toml"
    path.write_text(CONFIG.format(job=job))
    done = subprocess.run([HADAL, "render", *form.split(), path, "--no-check", *more], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    text = done.stdout if code == 0 else done.stderr
    # The one path that is this machine's.
    return text if as_it_is else text.replace(str(folder), "/p")


@pytest.mark.parametrize("name", CASES)
def test_a_form_is_what_it_was_read_to_be(tmp_path, name):
    text = render(tmp_path, *CASES[name])
    golden = GOLDEN / f"{name}.txt"
    if "HADAL_WRITE_GOLDEN" in os.environ:
        golden.write_text(text)
    assert text == golden.read_text()


HOSTILE = "it's \"so\" $(touch hacked) `touch hacked` \\ 100% ; #x &"


@pytest.mark.parametrize("form", ["slurm", "qcg"])
@pytest.mark.parametrize("more", ["", 'launcher = "mpirun"\n', 'on_stop = "chain"\n', 'on_stop = "exit"\n', "modules = ['a/1']\n",
                                  "container.image = '''" + HOSTILE + "'''\n"])
def test_scripts_are_sound_whatever_their_names(tmp_path, form, more):
    if form == "qcg" and "chain" in more:
        return
    folder = tmp_path / HOSTILE
    folder.mkdir()
    job = NODES + more + "environment.A = '''" + HOSTILE + "'''\nhadal = '''/opt/" + HOSTILE + "'''\n"
    text = render(folder, form, job, "--set", f"run.dir={json.dumps('/p/' + HOSTILE)}", "--set", f"run.name={json.dumps(HOSTILE)}")
    script = tmp_path / "job.sh"
    script.write_text(text)
    subprocess.run(["bash", "-n", script], check=True)
    # "Expressions don't expand in single quotes": as they should.
    subprocess.run(["shellcheck", "--exclude=SC2016", script], check=True)
    assert not re.search(r"#(SBATCH --job-name|QCG note).*[$`'\"]", text)


def test_a_script_says_every_word_as_it_is(tmp_path):
    """Run with stand-ins for the launcher and the program that write down what they get."""
    folder = tmp_path / HOSTILE
    folder.mkdir()
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "srun").write_text('#!/bin/bash\nprintf "%s\\n" "$@" >"$SEEN"\nprintf "0 complete 9 0\\n" >"log/exit-$HADAL_ATTEMPT"\nenv >"$SEEN.env"\n')
    (tools / "srun").chmod(0o755)
    job = NODES + "environment.A = '''" + HOSTILE + "'''\nhadal = '''/opt/" + HOSTILE + "'''\n"
    text = render(folder, "slurm", job, "--set", f"run.dir={json.dumps(str(folder / 'run'))}", as_it_is=True)
    (tmp_path / "job.sh").write_text(text)
    seen = tmp_path / "seen"
    done = subprocess.run(["bash", tmp_path / "job.sh"], check=False, capture_output=True, text=True, cwd=tmp_path,
                          env={"PATH": f"{tools}:/usr/bin:/bin", "SEEN": str(seen), "PYTHONPATH": "x", "SLURM_NTASKS": "64"})
    assert done.returncode == 0, done.stdout + done.stderr
    words = seen.read_text().splitlines()
    assert words[-5:-3] == ["/opt/" + HOSTILE, "train"]
    assert words[-3] == str(folder / "r50.toml")
    environment = pathlib.Path(f"{seen}.env").read_text()
    assert f"A={HOSTILE}\n" in environment
    assert "PYTHONPATH" not in environment and "SLURM_NTASKS=" not in environment and "SRUN_CPUS_PER_TASK=16\n" in environment
    assert not list(tmp_path.rglob("hacked"))


def stand_in(tmp_path, word, reason_state="RUNNING", code=75):
    """Runs a script whose run ends with this word; returns its output, its code and whether it was queued again."""
    tools = tmp_path / "tools"
    tools.mkdir(exist_ok=True)
    write = f'printf "{word}\\n" >"log/exit-$HADAL_ATTEMPT"\n' if word else ""
    commands = {"srun": f"{write}exit {code}\n", "squeue": f'[ "$5" = %T ] && echo {reason_state}\nexit 0\n',
                "scontrol": 'echo "$@" >>"$CALLS"\nexit 1\n', "sbatch": 'echo "sbatch $*" >>"$CALLS"\n'}
    for name, text in commands.items():
        (tools / name).write_text("#!/bin/bash\n" + text)
        (tools / name).chmod(0o755)
    return {"PATH": f"{tools}:/usr/bin:/bin", "CALLS": str(tmp_path / "calls"), "SLURM_JOB_ID": "7"}


@pytest.mark.parametrize(("word", "launcher_code", "restarts", "again", "code", "told"), [
    ("75 time 10 0", 75, 0, True, 75, "to be gone on with"),
    ("75 usr1 10 0", 137, 0, True, 75, "the launcher said 137, the run says 75 (usr1, step 10)"),
    ("75 usr2 10 0", 75, 0, False, 75, ""),
    ("75 stop 10 0", 75, 0, False, 75, ""),
    ("75 term 10 0", 75, 0, True, 75, ""),
    ("75 time 10 2", 75, 0, True, 75, ""),
    ("75 time 10 3", 75, 0, False, 75, "3 attempts without one new step"),
    ("75 time 10 0", 75, 20, False, 75, "20 restarts are used up"),
    ("0 complete 10 0", 0, 0, False, 0, ""),
    ("0 complete 10 0", 143, 0, False, 0, "the run says 0"),
    ("78 config 0 1", 78, 0, False, 78, ""),
    ("76 peer 5 0", 137, 0, False, 76, "the run says 76"),
    ("", 0, 0, False, 70, "the run left no word"),
    ("", 137, 0, False, 137, ""),
])
def test_what_is_queued_again(tmp_path, word, launcher_code, restarts, again, code, told):
    text = render(tmp_path, "slurm", NODES, "--set", f"run.dir={json.dumps(str(tmp_path / 'run'))}", as_it_is=True)
    (tmp_path / "job.sh").write_text(text)
    environment = stand_in(tmp_path, word, code=launcher_code) | {"SLURM_RESTART_COUNT": str(restarts)}
    done = subprocess.run(["bash", tmp_path / "job.sh"], check=False, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    calls = tmp_path / "calls"
    assert (calls.read_text() if calls.exists() else "") == ("requeue 7\n" if again else "")
    assert told in done.stdout + done.stderr


def test_a_stop_file_keeps_a_job_from_coming_back_whatever_ended_it(tmp_path):
    text = render(tmp_path, "slurm", NODES, "--set", f"run.dir={json.dumps(str(tmp_path / 'run'))}", as_it_is=True)
    (tmp_path / "job.sh").write_text(text)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "STOP").touch()
    environment = stand_in(tmp_path, "75 time 10 0") | {"SLURM_RESTART_COUNT": "1"}
    done = subprocess.run(["bash", tmp_path / "job.sh"], check=False, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 75
    assert not (tmp_path / "calls").exists()


def test_a_job_that_is_queued_again_leaves_its_nodes_when_told(tmp_path):
    text = render(tmp_path, "slurm", NODES, "--set", f"run.dir={json.dumps(str(tmp_path / 'run'))}", as_it_is=True)
    (tmp_path / "job.sh").write_text(text)
    environment = stand_in(tmp_path, "75 time 10 0")
    scontrol = tmp_path / "tools" / "scontrol"
    scontrol.write_text('#!/bin/bash\necho "$@" >>"$CALLS"\n(sleep 0.5; kill -TERM $PPID) >/dev/null 2>&1 &\n')
    done = subprocess.run(["bash", tmp_path / "job.sh"], check=False, capture_output=True, text=True, env=environment, timeout=30)
    assert done.returncode == 75, done.stdout + done.stderr
    assert (tmp_path / "calls").read_text() == "requeue 7\n"
    assert "cannot be queued again" not in done.stderr


def test_a_launcher_that_hangs_behind_its_ranks_is_ended(tmp_path):
    text = render(tmp_path, "slurm", NODES, "--set", f"run.dir={json.dumps(str(tmp_path / 'run'))}", as_it_is=True)
    (tmp_path / "job.sh").write_text(text)
    environment = stand_in(tmp_path, "0 complete 10 0")
    hangs = 'printf "0 complete 10 0\\n" >"log/exit-$HADAL_ATTEMPT"\nexec /bin/sleep 600\n'
    for name, body in {"srun": hangs, "sleep": "exec /bin/sleep 0.1\n"}.items():
        (tmp_path / "tools" / name).write_text("#!/bin/bash\n" + body)
        (tmp_path / "tools" / name).chmod(0o755)
    done = subprocess.run(["bash", tmp_path / "job.sh"], check=False, capture_output=True, text=True, env=environment, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the launcher said 137, the run says 0" in done.stdout


def test_a_cancelled_job_does_not_come_back(tmp_path):
    text = render(tmp_path, "slurm", NODES, "--set", f"run.dir={json.dumps(str(tmp_path / 'run'))}", as_it_is=True)
    (tmp_path / "job.sh").write_text(text)
    environment = stand_in(tmp_path, "75 term 10 0", reason_state="COMPLETING")
    done = subprocess.run(["bash", tmp_path / "job.sh"], check=False, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 75
    assert not (tmp_path / "calls").exists()


@pytest.mark.parametrize(("failing", "word", "code", "copies"), [
    ("", "0 complete 9 0", 0, ["copy share:a b /data", "copy RUN share:out"]),
    ("", "72 numeric 9 0", 72, ["copy share:a b /data", "copy RUN share:out"]),
    ("", "75 time 9 0", 75, ["copy share:a b /data"]),
    ("share:a b", "", 74, ["copy share:a b /data"]),
    ("RUN", "0 complete 9 0", 74, ["copy share:a b /data", "copy RUN share:out"]),
    ("RUN", "72 numeric 9 0", 72, ["copy share:a b /data", "copy RUN share:out"])])
def test_data_are_staged_in_before_and_out_at_the_end(tmp_path, failing, word, code, copies):
    """Out only when the job is not to go on, and never in place of the run's own code."""
    run = tmp_path / "run"
    job = NODES + f"stage_in = [['share:a b', '/data']]\nstage_out = [[{json.dumps(str(run))}, 'share:out']]\n"
    text = render(tmp_path, "slurm", job, "--set", f"run.dir={json.dumps(str(run))}", as_it_is=True)
    (tmp_path / "job.sh").write_text(text)
    environment = stand_in(tmp_path, word, code=code)
    tools = tmp_path / "tools"
    (tools / "rclone").write_text(f'#!/bin/bash\necho "$@" >>"{tmp_path}/copies"\n[ "$2" != "{failing.replace("RUN", str(run))}" ]\n')
    (tools / "rclone").chmod(0o755)
    # A job that is queued again is ended by Slurm while its script waits.
    (tools / "scontrol").write_text("#!/bin/bash\nkill -KILL $PPID\n")
    done = subprocess.run(["bash", tmp_path / "job.sh"], check=False, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == (-9 if code == 75 else code), done.stdout + done.stderr
    assert (tmp_path / "copies").read_text().replace(str(run), "RUN").splitlines() == copies


@pytest.mark.parametrize(("form", "job", "told"), [
    ("slurm", "cpus_per_rank = 1", "job.time is missing"),
    ("slurm", "time = '1h'", "job.cpus_per_rank is missing"),
    ("slurm", NODES + "gpus_per_node = 2", "a rank has one GPU"),
    ("slurm", NODES + "environment.API_TOKEN = 'x'", "job.environment.API_TOKEN looks like a secret"),
    ("slurm", NODES + "environment.\"a b\" = 'x'", '"a b" is no name of a variable'),
    ("slurm", NODES + "container = { image = 'x', runtime = 'udocker' }", "starts one rank, not 16"),
    ("slurm", NODES + "queue = 'a\\nb'".replace("'", '"'), "must be one plain word"),
    ("slurm", NODES + "native = ['x']", "must be one option, beginning with -"),
    ("slurm", "cpus_per_rank = 1\ntime = '3m'\nsignal_lead = '2m'", "make it at least 240 s"),
    ("slurm", NODES + "quene = 'x'", "did you mean job.queue?"),
    ("qcg", NODES + "on_stop = 'chain'", 'job.on_stop = "chain" cannot be said in the form "qcg"'),
    ("qcg-rest", NODES + "pass_env = ['A']", 'job.pass_env cannot be said in the form "qcg-rest"'),
    ("slurmrestd", NODES + "native = ['--x']", 'job.native cannot be said in the form "slurmrestd"'),
    ("qcg-pilot", NODES + "gpus_per_node = 4", 'job.gpus_per_node cannot be said in the form "qcg-pilot"'),
    ("qcg-pilot", NODES, "which counts one core a rank"),
    ("mpijob", NODES, "job.container.image is missing"),
    ("mpijob", NODES + "queue = 'x'", 'job.queue cannot be said in the form "mpijob"'),
    ("interlink", NODES + "container.image = 'x'\non_stop = 'requeue'", 'job.on_stop = "requeue" cannot be said in the form "interlink"'),
])
def test_what_no_job_can_be_made_of(tmp_path, form, job, told):
    assert told in render(tmp_path, form, job, code=78)


@pytest.mark.parametrize("name", ["qcg-pilot", "interlink", "mpijob"])
def test_what_carries_no_script_carries_no_config(tmp_path, name):
    assert "carries no script, and so no config" in render(tmp_path, *CASES[name], "--self-contained", code=78)


def test_gateways_cut_at_spaces(tmp_path):
    assert "QCG cuts arguments at spaces" in render(tmp_path, "qcg-rest", NODES, "--set", "run.dir=/p/a b", code=78)


def test_what_the_run_needs_is_looked_at(run):
    run.fields(x=numpy.zeros((96, 6), "f4"), y=numpy.zeros(96, "i8"))
    run.config("""[model]
kind = "mlp"
options = { classes = 4, hidden = [8] }
[train]
steps = 3
global_batch = 24
micro_batch = 2
[optimizer]
kind = "sgd"
lr = 0.001
[job]
nodes = 2
ranks_per_node = 4
cpus_per_rank = 1
time = "1h"
""")
    away = ("--set", 'run.dir="/p/run"')
    text = subprocess.run([HADAL, "render", "slurm", run.folder / "run.toml", *away], capture_output=True, text=True, check=True).stdout
    assert "#SBATCH --ntasks=8\n" in text

    def refused(*settings, code=78):
        done = subprocess.run([HADAL, "render", "slurm", run.folder / "run.toml", *away, *sum((["--set", s] for s in settings), [])],
                              capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout
        return done.stderr

    assert "16 ranks, but a step has 12 micro-batches" in refused("job.ranks_per_node=8")
    assert "job.memory_per_node = 2.0 GiB, but 4 ranks with one worker each need 4" in refused("job.memory_per_node=2GiB")
    assert "checkpoints of" in refused("checkpoint.keep=1000000000000")
    assert "run.dir = /var/tmp/run is of one node" in refused('run.dir="/var/tmp/run"')
    (run.folder / "train.h5").unlink()
    assert "train.h5" in refused(code=65)


def test_a_container_sees_where_links_lead(run, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "data").mkdir()
    run.fields(x=numpy.zeros((24, 6), "f4"), y=numpy.zeros(24, "i8"))
    (run.folder / "train.h5").rename(tmp_path / "real" / "file.h5")
    (tmp_path / "data" / "train-0.h5").symlink_to(tmp_path / "real" / "file.h5")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "r.toml").write_text(CONFIG.format(job=NODES + "container.image = '/im.sif'\n").replace("/p/data/", f"{tmp_path}/data/"))
    text = subprocess.run([HADAL, "render", "slurm", tmp_path / "config" / "r.toml", "--no-check"], capture_output=True, text=True, check=True).stdout
    binds = re.findall(r"--bind (\S+)", text)
    assert {f"{tmp_path}/{name}" for name in ("data", "real", "config")} < set(binds), binds


def test_a_site_has_defaults_of_its_own(tmp_path):
    site = tmp_path / "site.toml"
    site.write_text('[job]\nqueue = "batch"\naccount = "site"\nmodules = ["site/1"]\n')
    (tmp_path / "r.toml").write_text(CONFIG.format(job=NODES + 'account = "mine"\n'))

    def rendered():
        return subprocess.run([HADAL, "render", "slurm", tmp_path / "r.toml", "--no-check"], capture_output=True, text=True, check=False,
                              env=os.environ | {"HADAL_SITE": str(site)})

    text = rendered().stdout
    assert "#SBATCH --partition=batch\n" in text and "#SBATCH --account=mine\n" in text and "module load site/1" in text
    site.write_text('[train]\nglobal_batch = 8\n')
    done = rendered()
    assert done.returncode == 78 and "sets keys of [job] alone, not train.global_batch" in done.stderr


def test_a_job_can_carry_its_config(tmp_path):
    """What is inside, put into a file, is the config with every path absolute."""
    job = NODES + "queue = 'q'\n"
    text = render(tmp_path, "slurm", job, "--self-contained", "--set", "train.epochs=3")
    inside = re.search(r"<<'END_OF_CONFIG'[^\n]*\n(.*?)END_OF_CONFIG\n", text, re.DOTALL)[1]
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "other.toml").write_text(inside)
    keys = {}
    for path in (tmp_path / "r50.toml", tmp_path / "inside" / "other.toml"):
        shown = subprocess.run([HADAL, "check", path, "--set", "train.epochs=3"], capture_output=True, text=True, check=True).stdout
        keys[path] = [line.split()[:3] for line in shown.splitlines() if not re.search(r" run\.(name|dir) ", line)]
    assert len({json.dumps(value) for value in keys.values()}) == 1
    document = json.loads(render(tmp_path, "qcg-rest", job, "--self-contained"))
    script = base64.b64decode(document["execution"]["environment"]["HADAL_JOB"]).decode()
    assert "END_OF_CONFIG" in script
    assert all(" " not in word for word in document["execution"]["args"])


def test_tosca_against_the_types_of_indigo(tmp_path):
    """The orchestrator's parser takes the template; types from what indigo-dc/tosca-types says of them."""
    parser = pytest.importorskip("toscaparser.tosca_template")
    texts = "schema note directory stdout stderr std_outerr stdin queue wall_clock".split()
    numbers = "total_cores total_nodes cores_per_node memory_per_node memory_per_core gpus".split()
    lists = "arguments batch_system_options".split()
    types = {"tosca_definitions_version": "tosca_simple_yaml_1_0", "node_types": {
        "tosca.nodes.indigo.Batch.Job": {"derived_from": "tosca.nodes.Root", "properties": {
            "executable": {"type": "string", "required": True},
            "environment": {"type": "map", "entry_schema": {"type": "string"}, "required": False}}},
        "tosca.nodes.indigo.Qcg.Job": {"derived_from": "tosca.nodes.indigo.Batch.Job", "properties": {
            **{name: {"type": "string", "required": False} for name in texts},
            **{name: {"type": "integer", "required": False} for name in numbers},
            **{name: {"type": "list", "entry_schema": {"type": "string"}, "required": False} for name in lists}}}}}
    (tmp_path / "types.yaml").write_text(yaml.safe_dump(types))
    for name in ("tosca", "tosca-plain"):
        template = yaml.safe_load(render(tmp_path, *CASES[name]))
        template["imports"] = ["types.yaml"]
        (tmp_path / "template.yaml").write_text(yaml.safe_dump(template))
        parsed = parser.ToscaTemplate(str(tmp_path / "template.yaml"), {}, a_file=True)
        node = parsed.nodetemplates[0]
        assert node.type == "tosca.nodes.indigo.Qcg.Job"
        # Broken on purpose: the parser does look.
        template["topology_template"]["node_templates"]["training"]["properties"]["cores"] = 3
        (tmp_path / "template.yaml").write_text(yaml.safe_dump(template))
        with pytest.raises(Exception, match="cores"):
            parser.ToscaTemplate(str(tmp_path / "template.yaml"), {}, a_file=True)


def closed(**properties):
    return {"type": "object", "additionalProperties": False, "properties": properties}


WORD, COUNT = {"type": "string"}, {"type": "integer"}
LIST = {"type": "array", "items": WORD}
CONTAINER = closed(
    name=WORD, image=WORD, command=LIST, args=LIST, env={"type": "array", "items": closed(name=WORD, value=WORD)},
    resources=closed(limits={"type": "object", "additionalProperties": WORD}, requests={"type": "object"}),
    volumeMounts={"type": "array", "items": closed(name=WORD, mountPath=WORD, readOnly={"type": "boolean"})})
POD = closed(
    containers={"type": "array", "items": CONTAINER, "minItems": 1}, restartPolicy={"enum": ["Always", "OnFailure", "Never"]},
    volumes={"type": "array", "items": closed(name=WORD, hostPath=closed(path=WORD), persistentVolumeClaim=closed(claimName=WORD))},
    tolerations={"type": "array", "items": closed(key=WORD, operator={"enum": ["Exists", "Equal"]}, value=WORD, effect=WORD)},
    nodeSelector={"type": "object"})
METADATA = closed(name={"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", "maxLength": 63},
                  annotations={"type": "object", "additionalProperties": WORD}, labels={"type": "object"})
REPLICA = closed(replicas=COUNT, restartPolicy={"enum": ["Never", "OnFailure"]}, template=closed(metadata=METADATA, spec=POD))
# The fields of kubeflow.org/v2beta1 (kubeflow/mpi-operator, its resource definition).
MPI_JOB = closed(
    apiVersion={"const": "kubeflow.org/v2beta1"}, kind={"const": "MPIJob"}, metadata=METADATA,
    spec=closed(
        slotsPerWorker=COUNT, runLauncherAsWorker={"type": "boolean"}, sshAuthMountPath=WORD,
        launcherCreationPolicy={"enum": ["AtStartup", "WaitForWorkersReady"]}, mpiImplementation={"enum": ["OpenMPI", "Intel", "MPICH"]},
        runPolicy=closed(cleanPodPolicy={"enum": ["None", "Running", "All"]}, ttlSecondsAfterFinished=COUNT, activeDeadlineSeconds=COUNT,
                         backoffLimit=COUNT, schedulingPolicy={"type": "object"}, suspend={"type": "boolean"}),
        mpiReplicaSpecs=closed(Launcher=REPLICA, Worker=REPLICA)))


@pytest.mark.parametrize(("name", "schema"), [
    ("mpijob", MPI_JOB), ("interlink", closed(apiVersion={"const": "v1"}, kind={"const": "Pod"}, metadata=METADATA, spec=POD))])
def test_kubernetes_documents_have_known_fields_alone(tmp_path, name, schema):
    document = yaml.safe_load(render(tmp_path, *CASES[name]))
    jsonschema.validate(document, schema)
    # interLink's Slurm plugin takes these annotations (interlink-hq/interlink-slurm-plugin, README).
    known = {f"slurm-job.vk.io/{key}" for key in ("flags", "mpi-flags", "pre-exec", "singularity-commands", "singularity-mounts",
                                                  "singularity-options", "image-root", "flavor")}
    assert set(document["metadata"].get("annotations", {})) <= known
    document["spec"]["nosuch"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)


class Service:
    """Answers every request with the next of its answers, the last one for ever: (status, body), or a time to sleep."""

    def __init__(self, *answers):
        outer, self.answers, self.seen = self, list(answers), []

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def handle_one(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                outer.seen.append((self.command, self.path, dict(self.headers), body))
                status, text = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                if status == 0:
                    self.connection.close()
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_POST = do_DELETE = handle_one

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def submit(tmp_path, service, system, *more, code=0):
    (tmp_path / "r.toml").write_text(CONFIG.format(job=NODES).replace("/p/runs", "runs"))
    done = subprocess.run([HADAL, "submit", tmp_path / "r.toml", "--no-check", "--to", system, "--endpoint", service.endpoint, *more],
                          capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.mark.parametrize(("status", "told"), [
    (400, "it does not take the job as it is (no such partition)"), (401, "the token is missing, wrong or too old"), (403, "this user may not"),
    (404, "the endpoint is another service's"), (405, "another service's, or of another version"), (413, "too large"),
    (301, "it is somewhere else"), (500, "it is not well"), (429, "too many requests"), (200, "an answer that nobody expects")])
def test_every_answer_is_told(tmp_path, status, told):
    answer = json.dumps({"errors": [{"error": "no such partition", "error_number": 2000}]}) if status == 400 else "hello"
    with Service((status, answer)) as service:
        text = submit(tmp_path, service, "slurmrestd", code=69)
        assert f"the job is not submitted: slurmrestd at {service.endpoint} says {status}: " in text and told in text
        assert len(service.seen) == (3 if status == 429 else 1)


def test_what_did_not_arrive_is_sent_again(tmp_path):
    with Service((503, ""), (200, json.dumps({"job_id": 12}))) as service:
        assert submit(tmp_path, service, "slurmrestd") == "submitted: 12\n"
        assert [seen[:2] for seen in service.seen] == [("POST", "/slurm/v0.0.38/job/submit")] * 2


def test_what_may_have_arrived_is_not(tmp_path):
    with Service((0, "")) as service:
        assert "the job may be there all the same" in submit(tmp_path, service, "qcg", code=69)
        assert len(service.seen) == 1


def test_tokens_go_into_headers(tmp_path):
    token = tmp_path / "token"
    token.write_text("secret\n")
    token.chmod(0o600)
    with Service((201, json.dumps({"id": "9"}))) as service:
        assert submit(tmp_path, service, "qcg", "--token-file", token) == "submitted: 9\n"
        command, path, headers, body = service.seen[0]
        assert (command, path, headers["Authorization"]) == ("POST", "/jobs/", "Bearer secret")
        assert "secret" not in body and json.loads(body)["note"].startswith("hadal ")
    with Service((200, json.dumps({"job_id": 1}))) as service:
        submit(tmp_path, service, "slurmrestd", "--token-file", token, "--api", "41")
        _, path, headers, body = service.seen[0]
        assert path == "/slurm/v0.0.41/job/submit" and headers["X-SLURM-USER-TOKEN"] == "secret"
        assert "script" in json.loads(body)["job"]


@pytest.mark.parametrize(("system", "answer", "state"), [
    ("slurmrestd", {"jobs": [{"job_state": "RUNNING", "state_reason": "None"}]}, "running (RUNNING, None)"),
    ("slurmrestd", {"jobs": [{"job_state": ["PENDING"], "state_reason": "BeginTime"}]}, "queued (PENDING, BeginTime)"),
    ("slurmrestd", {"jobs": [{"job_state": "TIMEOUT", "state_reason": "TimeLimit"}]}, "failed (TIMEOUT, TimeLimit)"),
    ("slurmrestd", {"jobs": [{"job_state": "NEW_IN_2030", "state_reason": ""}]}, "unknown (NEW_IN_2030, )"),
    ("qcg", {"state": "SUBMITTED"}, "queued (SUBMITTED, )"), ("qcg", {"state": "COMPLETING", "errors": None}, "ending (COMPLETING, )"),
    ("qcg", {"state": "CANCELED"}, "cancelled (CANCELED, )"), ("qcg", {"state": "FAILED", "errors": "out of memory"}, "failed (FAILED, out of memory)")])
def test_states_have_one_vocabulary(tmp_path, system, answer, state):
    (tmp_path / "r.toml").write_text(CONFIG.format(job=NODES))
    with Service((200, json.dumps(answer))) as service:
        done = subprocess.run([HADAL, "status", tmp_path / "r.toml", "--id", "5", "--to", system, "--endpoint", service.endpoint],
                              capture_output=True, text=True, check=True)
        assert done.stdout == f"job 5: {state}\n"


def test_sbatch_is_not_told_of_the_job_it_is_called_in(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "sbatch").write_text(f'#!/bin/bash\nenv >"{tmp_path}/env"\necho "31;cluster"\n')
    (tools / "sbatch").chmod(0o755)
    (tmp_path / "r.toml").write_text(CONFIG.format(job=NODES))
    shared = tmp_path / "shared"
    environment = {"PATH": f"{tools}:/usr/bin:/bin", "SLURM_JOB_ID": "1", "SLURM_CONF": "/c", "SBATCH_PARTITION": "x", "PMIX_RANK": "0",
                   "PMI_SIZE": "2", "OMPI_MCA_btl": "tcp", "KEPT": "1"}
    done = subprocess.run([HADAL, "submit", tmp_path / "r.toml", "--no-check", "--set", f"run.dir={json.dumps(str(shared))}"],
                          capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (0, "submitted: 31\n"), done.stderr
    assert json.loads((shared / "log" / "job.json").read_text())["ids"] == ["31"]
    assert (shared / "log" / "job.sh").read_text().startswith("#!/bin/bash\n")
    seen = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines() if "=" in line)
    assert seen["KEPT"] == "1" and seen["SLURM_CONF"] == "/c"
    assert not [name for name in seen if name != "SLURM_CONF" and re.match("SLURM_|SBATCH_|PMI|OMPI_", name)]
