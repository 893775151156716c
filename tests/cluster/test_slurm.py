"""Runs as jobs of a real Slurm on two nodes: whatever ends a job, the run ends with the bits of one rank without Slurm."""

import itertools
import os
import re
import shlex
import signal
import subprocess

import pytest
from conftest import HADAL, SCRATCH, until

SHORT = 60
LONG = 6000
# For several lives, each of which may be a second late to stop.
LONGER = 12000
# More than the shortest job that Slurm allows has time for.
LONGEST = 36000


def without_repeats(steps):
    return [step for step, _ in itertools.groupby(steps)]


def assert_each_step_once(job, steps):
    """Each life begins with the step behind the one where the life before it stopped, and metrics tell each step once."""
    words = job.words()
    assert [code for code, *_ in words] == [75] * (len(words) - 1) + [0], words
    begun = [int(step) for step in re.findall(r"resuming at step (\d+)", job.output())]
    # One that is stopped before it has resumed leaves the step that it found.
    assert without_repeats(begun) == without_repeats(step for _, _, step, _ in words[:-1]), job.output()
    told = [int(step) for step in re.findall(r'"kind":"train","step":(\d+)', (job.run / "metrics.jsonl").read_text())]
    assert told == list(range(1, steps + 1))


@pytest.mark.parametrize("launcher", ["srun", "mpirun"])
def test_a_job_ends_with_the_bits_of_one_rank(new_job, reference, cluster, launcher):
    job = new_job(SHORT, "20st")
    job.set("job", f'launcher = "{launcher}"')
    number = job.submit()
    cluster.wait(number)
    assert "2 ranks on n1, 2 ranks on n2" in job.output()
    assert job.words() == [(0, "complete", SHORT, 0)]
    assert job.model() == reference(SHORT)
    assert job.hadal("status").startswith(f"job {number}: done (COMPLETED")


def test_the_end_of_its_time_and_five_more_stops_change_nothing(new_job, reference, cluster):
    job = new_job(LONGEST, "2000st")
    # The shortest limit that Slurm knows: the first life has it all, the next ones stop of themselves sooner.
    job.config.write_text(job.config.read_text().replace('time = "00:10:00"', 'time = "00:01:00"\nsignal_lead = "30s"'))
    number = job.submit()
    # Slurm signals up to a minute early: the first life may end before it has begun to say anything.
    until(lambda: cluster.hurry(number) or len(job.words()) >= 1, 200, job.output)
    job.config.write_text('run.deadline = "3s"\n' + job.config.read_text())
    until(lambda: cluster.hurry(number) or len(job.words()) >= 6, 300, job.output)
    job.config.write_text(job.config.read_text().replace('run.deadline = "3s"\n', ""))
    cluster.wait(number)
    assert {reason for code, reason, *_ in job.words() if code == 75} <= {"time", "usr1"}
    assert f"job {number}.6 on" in job.output()
    assert_each_step_once(job, LONGEST)
    assert job.model() == reference(LONGEST)


def test_slurm_itself_tells_the_end(new_job, cluster):
    """Without a script of hadal's: its library is asked (22.05 says nothing in the environment)."""
    job = new_job(5 * LONGEST, "2000st")
    number = cluster.say("sbatch", "--parsable", "--time=1", "--nodes=2", "--ntasks-per-node=2", f"--chdir={job.folder}", "--output=out",
                         "--wrap=srun --mpi=pmix " + shlex.join([HADAL, "train", str(job.config)]))
    cluster.wait(number, "FAILED")
    assert cluster.exit_code(number) == 75, (job.folder / "out").read_text()
    assert job.words()[0][:2] == (75, "time")


def test_a_chain_of_jobs(new_job, reference, cluster):
    job = new_job(LONGER, "2000st")
    job.set("job", 'on_stop = "chain"')
    job.submit("--to", "slurmrestd", "--endpoint", f"unix:{cluster.socket}")
    stopped = 0
    for life in range(3):
        # Steps of this life: the job before it may still be leaving its nodes.
        job.reaches(stopped + 500)
        number = cluster.say("squeue", "--noheader", "--me", "--states=RUNNING", "--format=%i")
        assert job.hadal("status").startswith(f"job {number}: running (RUNNING")
        cluster.say("scancel", "--batch", "--signal=USR1", number)
        until(lambda: len(job.words()) == life + 1, 60, job.output)
        stopped = job.words()[-1][2]
    until(lambda: not cluster.say("squeue", "--noheader", "--me", "--format=%i"), 120, job.output)
    assert_each_step_once(job, LONGER)
    assert len(job.words()) == 4
    assert job.model() == reference(LONGER)


def test_ends_that_nobody_asked_for(new_job, reference, cluster):
    """scancel, scontrol requeue, a rank killed, a daemon killed, a node set down: submitted again it goes on."""
    job = new_job(LONGER, "500st")
    number = job.submit()
    job.reaches(600)
    # Cancelled: saved, and not started again by itself.
    assert job.hadal("cancel") == f"cancelled: {number}\n"
    cluster.wait(number, "CANCELLED")
    stopped = job.status()["step"]
    assert stopped > 600 and job.status()["state"] == "stopped", job.output()
    assert job.hadal("status").startswith(f"job {number}: cancelled")

    # A STOP of that time holds no new submission up. An operator puts it back into the queue.
    number = job.submit()
    job.reaches(stopped + 600)
    cluster.say("scontrol", "requeue", number)
    until(lambda: cluster.state(number) == "PENDING", 60)
    requeued = job.status()["step"]
    cluster.wait(number, "RUNNING")
    job.reaches(requeued + 600)

    # The daemon of a node dies and comes again: the job does not notice.
    cluster.kill_daemon(2)
    cluster.node(2)

    # A rank is killed: the job fails at once with the run's code, and is not started again.
    os.kill(next(iter(cluster.processes(2))), signal.SIGKILL)
    cluster.wait(number, "FAILED")
    assert cluster.exit_code(number) == 76
    assert job.hadal("status").startswith(f"job {number}: failed")

    # A node is taken out: Slurm queues the job again by itself.
    number = job.submit()
    before = job.status()["step"]
    until(lambda: job.status()["state"] == "running" and job.status()["step"] > before + 300, 60, job.output)
    cluster.say("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=test")
    until(lambda: cluster.state(number) == "PENDING", 60)
    # It may have come back by itself.
    subprocess.run(["scontrol", "update", "NodeName=n2", "State=RESUME"], capture_output=True, check=False)
    cluster.wait(number)
    assert job.model() == reference(LONGER)


@pytest.mark.parametrize("launcher", ["srun", "mpirun"])
def test_term_while_the_job_runs_is_not_the_end(new_job, reference, cluster, launcher):
    """As where a job has to make place for others."""
    job = new_job(LONG, "2000st")
    job.set("job", f'launcher = "{launcher}"')
    number = job.submit()
    job.reaches(500)
    cluster.say("scancel", "--batch", "--signal=TERM", number)
    until(lambda: len(job.words()) == 1, 60, job.output)
    cluster.wait(number)
    assert_each_step_once(job, LONG)
    assert job.model() == reference(LONG)


def test_a_failed_training_is_a_failed_job(new_job, cluster):
    job = new_job(SHORT, "20st")
    # Nothing that could be seen before the job.
    job.config.write_text(job.config.read_text().replace("lr = 1e-3", "lr = 1e30"))
    number = job.submit()
    cluster.wait(number, "FAILED")
    assert cluster.exit_code(number) == 72, job.output()
    assert job.words()[0][0] == 72


def test_what_is_submitted_several_times_takes_turns(new_job, reference, cluster):
    job = new_job(LONG, "2000st")
    job.set("job", 'on_stop = "exit"')
    numbers = job.hadal("submit", "--times", 2).split()[1:]
    job.reaches(500)
    assert [cluster.state(number) for number in numbers] == ["RUNNING", "PENDING"]
    cluster.say("scancel", "--batch", "--signal=USR1", numbers[0])
    cluster.wait(numbers[0], "FAILED")
    assert cluster.exit_code(numbers[0]) == 75
    cluster.wait(numbers[1])
    assert_each_step_once(job, LONG)
    assert job.model() == reference(LONG)


def test_a_stop_file_keeps_a_job_from_being_queued_again(new_job, cluster):
    job = new_job(LONG, "2000st")
    number = job.submit()
    job.reaches(200)
    (job.run / "STOP").touch()
    cluster.wait(number, "FAILED")
    assert cluster.exit_code(number) == 75
    assert job.words()[0][:2] == (75, "stop")


def test_the_rest_interface(new_job, reference, cluster):
    job = new_job(LONG, "2000st")
    job.set("job", "gpus_per_node = 2", 'memory_per_node = "1500MiB"')
    job.set("data", 'memory = "16MiB"')
    address = ["--to", "slurmrestd", "--endpoint", f"unix:{cluster.socket}"]
    number = job.submit(*address)
    job.reaches(500)
    assert job.hadal("status").startswith(f"job {number}: running (RUNNING")
    shown = cluster.say("scontrol", "--oneliner", "show", "job", number)
    assert "TresPerNode=gres:gpu:2" in shown and "TimeLimit=00:10:00" in shown and "MinMemoryNode=1500M" in shown
    job.hadal("cancel")
    cluster.wait(number, "CANCELLED")
    assert job.status()["state"] == "stopped"
    number = job.submit(*address)
    cluster.wait(number)
    assert job.model() == reference(LONG)
    assert job.hadal("status", "--id", "4000000").startswith("job 4000000: unknown")


def test_a_task_sees_the_gpus_of_its_node(cluster):
    lines = cluster.say("srun", "--nodes=2", "--ntasks=2", "--gres=gpu:2", "--gpu-bind=none", "bash", "-c", "echo $SLURM_GPUS_ON_NODE $CUDA_VISIBLE_DEVICES")
    assert lines.split("\n") == ["2 0,1"] * 2


@pytest.mark.parametrize("launcher", ["srun", "mpirun"])
def test_the_doctor_looks_at_the_nodes_first(new_job, cluster, launcher):
    job = new_job(SHORT, "20st")
    job.set("job", "doctor = true", f'launcher = "{launcher}"')
    number = job.submit()
    cluster.wait(number)
    told = job.output()
    assert re.search(rf"ok +ranks +2 ranks on n1, 2 ranks on n2, by {launcher}", told), told
    assert re.search(r"ok +network +[\d.]+ GB/s each way between hosts", told) and re.search(r"ok +shared folder", told), told
    assert re.search(r"ok +time +\d+ min left", told), told
    # Their own /tmp is what nodes do not share. The last rank is slow to leave: srun then ends it with TERM, which must not
    # become the job's code.
    slow = SCRATCH / "slow hadal"
    slow.write_text(f'#!/bin/bash\n[ "$PMIX_RANK" != 3 ] || export LD_PRELOAD="{os.environ["SLOW_EXIT"]}"\nexec "{HADAL}" "$@"\n')
    slow.chmod(0o755)
    job = new_job(SHORT, "20st")
    job.set("job", "doctor = true", f'launcher = "{launcher}"')
    job.config.write_text(job.config.read_text().replace(f'hadal = "{HADAL}"', f'hadal = "{slow}"'))
    script = job.folder / "job.sh"
    (job.run / "log").mkdir(parents=True)
    text = job.render("slurm")
    script.write_text(text.replace("doctor ", f"doctor --set run.dir=/tmp/{job.folder.name.split()[0]} ", 1))
    number = cluster.say("sbatch", "--parsable", script)
    cluster.wait(number, "FAILED")
    assert cluster.exit_code(number) == 69
    assert re.search(r"fail +shared folder +\S+ is not the same on n2\n +-> take a folder that all nodes share", job.output()), job.output()
