"""What is said when a batch system or a gateway does not answer as it should."""

import http.server
import json
import os
import re
import subprocess
import threading

import pytest
from conftest import HADAL
from job_configs import CONFIG, NODES


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


def test_a_chain_is_known_by_its_name(tmp_path):
    def job(number, state, name, user="me"):
        return {"job_id": number, "job_state": state, "state_reason": "None", "name": name, "user_name": user}

    def ask(verb, *answers):
        with Service(*((200, json.dumps(answer)) for answer in answers)) as service:
            done = subprocess.run([HADAL, verb, tmp_path / "r.toml", "--endpoint", service.endpoint], capture_output=True, text=True, check=True,
                                  env={**os.environ, "USER": "me"})
            return done.stdout.splitlines()[0], [seen[:2] for seen in service.seen]

    with Service((200, json.dumps({"job_id": 12}))) as service:
        submit(tmp_path, service, "slurmrestd")
    (record,) = tmp_path.glob("runs/**/job.json")
    name = json.loads(record.read_text())["name"]
    over, root = {"jobs": [job(12, "COMPLETED", name)]}, "/slurm/v0.0.38"
    all_jobs = {"jobs": [job(11, "RUNNING", "another"), job(12, "COMPLETED", name), job(14, "PENDING", name), job(13, ["RUNNING"], name),
                         job(16, "COMPLETING", name), job(15, "RUNNING", name, "you")]}
    assert ask("status", over, all_jobs) == ("job 13: running (RUNNING, None)", [("GET", f"{root}/job/12"), ("GET", f"{root}/jobs")])
    assert ask("status", over, {"jobs": []})[0] == "job 12: done (COMPLETED, None)"
    # As long as it is there itself, nobody looks for others.
    assert ask("status", {"jobs": [job(12, "RUNNING", name)]}) == ("job 12: running (RUNNING, None)", [("GET", f"{root}/job/12")])
    _, seen = ask("cancel", {}, all_jobs, {})
    assert seen == [("DELETE", f"{root}/job/12"), ("GET", f"{root}/jobs"), *(("DELETE", f"{root}/job/{number}") for number in (14, 13, 16))]


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
