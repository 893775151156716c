"""The same jobs through QCG: its gateway's REST interface, its script lines, and the template that the PaaS orchestrator deploys."""

import json
import shlex
import sys

import pytest
import qcg
import yaml
from conftest import SCRATCH, until

STEPS = 6000


@pytest.fixture
def gateway(cluster):
    made = qcg.Gateway("secret")
    made.token_file = SCRATCH / "token"
    made.token_file.write_text("secret\n")
    made.token_file.chmod(0o600)
    yield made
    made.close()


def address(gateway):
    return ["--to", "qcg", "--endpoint", gateway.endpoint, "--token-file", gateway.token_file]


def test_the_gateway_runs_stops_and_goes_on(new_job, reference, cluster, gateway):
    job = new_job(STEPS, "1000st", "qcg-rest")
    number = job.submit(*address(gateway))
    slurm = gateway.jobs[number][0]
    job.reaches(300)
    assert job.hadal("status").startswith(f"job {number}: running (EXECUTING")
    # Queued again in place, under the same number everywhere.
    cluster.say("scancel", "--batch", "--signal=USR1", slurm)
    until(lambda: len(job.words()) == 1, 60)
    until(lambda: cluster.state(slurm) == "PENDING", 60)
    assert job.hadal("status").startswith(f"job {number}: queued (PENDING")
    cluster.wait(slurm, "RUNNING")
    job.reaches(job.words()[0][2] + 300)
    assert job.hadal("cancel") == f"cancelled: {number}\n"
    cluster.wait(slurm, "CANCELLED")
    assert job.status()["state"] == "stopped"
    number = job.submit(*address(gateway))
    cluster.wait(gateway.jobs[number][0])
    assert job.hadal("status").startswith(f"job {number}: done (FINISHED")
    assert job.model() == reference(STEPS)


def test_a_failed_training_is_a_failed_job(new_job, cluster, gateway):
    job = new_job(STEPS, "1000st", "qcg-fails")
    job.config.write_text(job.config.read_text().replace("lr = 1e-3", "lr = 1e30"))
    number = job.submit(*address(gateway))
    cluster.wait(gateway.jobs[number][0], "FAILED")
    assert gateway.report(number)["exit_code"] == 72
    assert job.hadal("status").startswith(f"job {number}: failed (FAILED, FAILED)")


def test_a_job_that_carries_its_config(new_job, reference, cluster, gateway):
    """For whoever has no shell at the site: nothing of the job is there before it runs."""
    job = new_job(STEPS, "1000st", "qcg-inside")
    cluster.say("scontrol", "update", "PartitionName=main", "State=DOWN")
    try:
        number = job.submit(*address(gateway), "--self-contained")
        assert not job.run.exists()
        job.config.rename(job.folder / "elsewhere.toml")
    finally:
        cluster.say("scontrol", "update", "PartitionName=main", "State=UP")
    cluster.wait(gateway.jobs[number][0])
    assert job.model() == reference(STEPS)


def test_script_lines(new_job, reference, cluster):
    job = new_job(STEPS, "1000st", "qcg-lines")
    (job.run / "log").mkdir(parents=True)
    path = job.folder / "job.qcg"
    path.write_text(job.render("qcg"))
    number = qcg.submit_script(path)
    job.reaches(300)
    # Whoever submitted it: the job has a number of Slurm's.
    known = ("--id", number, "--to", "slurm")
    assert job.hadal("status", *known).startswith(f"job {number}: running (RUNNING")
    assert job.hadal("cancel", *known) == f"cancelled: {number}\n"
    cluster.wait(number, "CANCELLED")
    assert job.status()["state"] == "stopped"
    cluster.wait(qcg.submit_script(path))
    assert job.model() == reference(STEPS)


def test_what_the_orchestrator_makes_of_the_template(new_job):
    """It hands the properties of the node on, `gpus` as --gres and batch_system_options behind it (QcgServiceImpl)."""
    job = new_job(STEPS, "1000st", "tosca")
    job.set("job", "gpus_per_node = 2", 'queue = "main"', 'account = "acc"', 'memory_per_node = "4GiB"')
    template = yaml.safe_load(job.render("tosca"))["topology_template"]
    values = {name: given["default"] for name, given in template["inputs"].items()}
    properties = template["node_templates"]["training"]["properties"]
    properties = {name: values[given["get_input"]] if isinstance(given, dict) and "get_input" in given else given for name, given in properties.items()}
    execution = {name: properties[name] for name in ("executable", "directory", "std_outerr")}
    made = {
        "note": properties["note"],
        "execution": execution | {"args": properties["arguments"], "directory_policy": {"create": "OVERWRITE", "remove": "NEVER"}},
        "resources": {"queue": properties["queue"], "wall_clock": properties["wall_clock"], "components": [
            {name: properties[name] for name in ("total_cores", "total_nodes", "cores_per_node", "memory_per_node")}
            | {"native": [f"--gres=gpu:{properties['gpus']}", *properties["batch_system_options"]]}]},
    }
    expected = json.loads(job.render("qcg-rest"))
    del expected["attributes"], expected["execution"]["environment"]
    for document in (made, expected):
        document["resources"]["components"][0]["native"].sort()
    assert made == expected


def test_what_the_gateway_refuses_is_told(new_job, gateway):
    job = new_job(STEPS, "1000st", "qcg-refused")
    gateway.token_file.chmod(0o644)
    assert "chmod 600" in job.hadal("submit", *address(gateway), code=64)
    gateway.token_file.chmod(0o600)
    gateway.token_file.write_text("old\n")
    assert "says 401: the token is missing, wrong or too old" in job.hadal("submit", *address(gateway), code=69)
    gateway.token_file.write_text("secret\n")
    job.set("job", 'queue = "nosuch"')
    told = job.hadal("submit", *address(gateway), code=69)
    assert "says 400" in told and "invalid partition" in told


@pytest.mark.parametrize("ranks", [1, 4])
def test_a_pilot_job(new_job, reference, cluster, ranks):
    """QCG-PilotJob itself, in an allocation of both nodes."""
    job = new_job(STEPS, "1000st", f"pilot-{ranks}")
    text = job.config.read_text()
    if ranks == 1:
        text = text.replace("nodes = 2\nranks_per_node = 2\ncpus_per_rank = 1", "cpus_per_rank = 2")
    job.config.write_text(text)
    (job.run / "log").mkdir(parents=True)
    requests = job.folder / "requests.json"
    requests.write_text(job.render("qcg-pilot"))
    service = shlex.join([sys.executable, "-m", "qcg.pilotjob.service", "--file-path", str(requests), "--wd", str(job.folder)])
    number = cluster.say("sbatch", "--parsable", "--nodes=2", "--ntasks-per-node=2", f"--chdir={job.folder}", "--output=pilot.out", f"--wrap={service}")
    cluster.wait(number)
    told = "".join(path.read_text() for path in sorted((job.run / "log").glob("job-pilot.*")))
    assert job.status()["state"] == "done", told
    assert ("2 ranks on n1, 2 ranks on n2" if ranks == 4 else "1 rank on") in told
    assert job.model() == reference(STEPS)
