"""What a job's script does, with stand-ins for the batch system: its words, its decisions at the end, its copies."""

import json
import os
import pathlib
import re
import subprocess

import pytest
from job_configs import NODES, render

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
    """The environment of a script whose run ends with this word and code, and whose commands of Slurm say this much."""
    tools = tmp_path / "tools"
    tools.mkdir(exist_ok=True)
    write = f'printf "{word}\\n" >"log/exit-$HADAL_ATTEMPT"\n' if word else ""
    commands = {"srun": f"{write}exit {code}\n", "squeue": f'[ "$5" = %T ] && echo {reason_state}\nexit 0\n',
                "scontrol": 'echo "$@" >>"$CALLS"\nexit 1\n', "sbatch": 'echo "sbatch $*" >>"$CALLS"\n'}
    for name, text in commands.items():
        (tools / name).write_text("#!/bin/bash\n" + text)
        (tools / name).chmod(0o755)
    return {"PATH": f"{tools}:/usr/bin:/bin", "CALLS": str(tmp_path / "calls"), "SLURM_JOB_ID": "7"}


def run_script(tmp_path, environment, job=NODES):
    text = render(tmp_path, "slurm", job, "--set", f"run.dir={json.dumps(str(tmp_path / 'run'))}", as_it_is=True)
    (tmp_path / "job.sh").write_text(text)
    return subprocess.run(["bash", tmp_path / "job.sh"], check=False, capture_output=True, text=True, env=environment, timeout=60)


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
    environment = stand_in(tmp_path, word, code=launcher_code) | {"SLURM_RESTART_COUNT": str(restarts)}
    done = run_script(tmp_path, environment)
    assert done.returncode == code, done.stdout + done.stderr
    calls = tmp_path / "calls"
    assert (calls.read_text() if calls.exists() else "") == ("requeue 7\n" if again else "")
    assert told in done.stdout + done.stderr


def test_a_stop_file_keeps_a_job_from_coming_back_whatever_ended_it(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "STOP").touch()
    environment = stand_in(tmp_path, "75 time 10 0") | {"SLURM_RESTART_COUNT": "1"}
    done = run_script(tmp_path, environment)
    assert done.returncode == 75
    assert not (tmp_path / "calls").exists()


@pytest.mark.parametrize(("behind", "stays"), [(-600, False), (0.5, False), (2, True)])
def test_a_stop_file_of_an_earlier_job_is_gone(tmp_path, behind, stays):
    """Made so many seconds behind the one in which the job was submitted."""
    submitted = 1_800_000_000
    stop = tmp_path / "run" / "STOP"
    stop.parent.mkdir()
    stop.touch()
    os.utime(stop, (submitted + behind, submitted + behind))
    environment = stand_in(tmp_path, "0 complete 10 0", code=0)
    squeue = tmp_path / "tools" / "squeue"
    squeue.write_text(f'#!/bin/bash\n[ "$5" != %V ] || date -d @{submitted} +%FT%T\n')
    done = run_script(tmp_path, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert stop.exists() == stays


def test_a_job_that_is_queued_again_leaves_its_nodes_when_told(tmp_path):
    environment = stand_in(tmp_path, "75 time 10 0")
    scontrol = tmp_path / "tools" / "scontrol"
    scontrol.write_text('#!/bin/bash\necho "$@" >>"$CALLS"\n(sleep 0.5; kill -TERM $PPID) >/dev/null 2>&1 &\n')
    done = run_script(tmp_path, environment)
    assert done.returncode == 75, done.stdout + done.stderr
    assert (tmp_path / "calls").read_text() == "requeue 7\n"
    assert "cannot be queued again" not in done.stderr


def test_a_launcher_that_hangs_behind_its_ranks_is_ended(tmp_path):
    environment = stand_in(tmp_path, "0 complete 10 0")
    hangs = 'printf "0 complete 10 0\\n" >"log/exit-$HADAL_ATTEMPT"\nexec /bin/sleep 600\n'
    for name, body in {"srun": hangs, "sleep": "exec /bin/sleep 0.1\n"}.items():
        (tmp_path / "tools" / name).write_text("#!/bin/bash\n" + body)
        (tmp_path / "tools" / name).chmod(0o755)
    done = run_script(tmp_path, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the launcher said 137, the run says 0" in done.stdout


def test_a_cancelled_job_does_not_come_back(tmp_path):
    environment = stand_in(tmp_path, "75 term 10 0", reason_state="COMPLETING")
    done = run_script(tmp_path, environment)
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
    environment = stand_in(tmp_path, word, code=code)
    tools = tmp_path / "tools"
    (tools / "rclone").write_text(f'#!/bin/bash\necho "$@" >>"{tmp_path}/copies"\n[ "$2" != "{failing.replace("RUN", str(run))}" ]\n')
    (tools / "rclone").chmod(0o755)
    # A job that is queued again is ended by Slurm while its script waits.
    (tools / "scontrol").write_text("#!/bin/bash\nkill -KILL $PPID\n")
    done = run_script(tmp_path, environment, job)
    assert done.returncode == (-9 if code == 75 else code), done.stdout + done.stderr
    assert (tmp_path / "copies").read_text().replace(str(run), "RUN").splitlines() == copies
