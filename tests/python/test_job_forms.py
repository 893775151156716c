"""Every form of a job against files that were read line by line, and what no job can be made of. To make the files anew:
HADAL_WRITE_GOLDEN=1, then read the difference.
"""

import base64
import json
import os
import re
import subprocess

import jsonschema
import numpy
import pytest
import yaml
from conftest import HADAL
from job_configs import CONFIG, FULL, GOLDEN, NODES, render

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
    "orchestrator": ("orchestrator", NODES),
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


@pytest.mark.parametrize("name", CASES)
def test_a_form_is_what_it_was_read_to_be(tmp_path, name):
    text = render(tmp_path, *CASES[name])
    golden = GOLDEN / f"{name}.txt"
    if "HADAL_WRITE_GOLDEN" in os.environ:
        golden.write_text(text)
    assert text == golden.read_text()


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


def test_a_deployment_stays_with_one_provider_for_as_long_as_the_run_takes(tmp_path):
    """Another one would start the run from zero, where none of its checkpoints are."""
    body = json.loads(render(tmp_path, "orchestrator", NODES.replace("08:", "48:")))
    assert body["template"] == render(tmp_path, "tosca", NODES.replace("08:", "48:"))
    assert body["maxProvidersRetry"] == 1 and body["keepLastAttempt"] is True
    assert body["providerTimeoutMins"] == body["timeoutMins"] == 14400 + 21 * 48 * 60
    once = json.loads(render(tmp_path, "orchestrator", NODES + "on_stop = 'exit'\n"))
    assert once["timeoutMins"] == 14400 + 8 * 60


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
