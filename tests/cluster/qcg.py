"""A stand-in for QCG's gateway, in front of the test's Slurm: its REST interface and its script lines.

It knows the fields that its clients' data types have (indigo-dc/deep-qcg-client) and refuses every other one, takes
arguments apart at spaces as gateways do, and empties the job's folder where it is told to.
"""

import http.server
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import threading

TEXT, WHOLE, MAP = "text", "whole", "map"
FIELDS = {
    "note": TEXT,
    "schema": TEXT,
    "attributes": MAP,
    "execution": {
        "executable": TEXT, "args": [TEXT], "stdout": TEXT, "stderr": TEXT, "std_outerr": TEXT, "stdin": TEXT, "environment": MAP,
        "directory": TEXT,
        "directory_policy": {"create": ("OVERWRITE", "NOT_OVERWRITE"), "remove": ("ALWAYS", "NEVER", "FINISHED_OWNED", "CUSTOM")},
    },
    "resources": {
        "queue": TEXT, "wall_clock": TEXT,
        "components": [{"total_cores": WHOLE, "total_nodes": WHOLE, "cores_per_node": WHOLE, "node_attrs": [TEXT], "memory_per_node": WHOLE,
                        "memory_per_core": WHOLE, "consumable": TEXT, "native": [TEXT]}],
    },
    "monitoring": {"notify": [{"scheme": ("http", "email"), "address": TEXT,
                               "when": ("ALWAYS", "FINISHED", "FAILED", "CANCELED", "STARTED")}]},
}
ANSWER = ("attributes", "user", "type", "operation", "task_id", "operation_start", "resource", "local_group", "eta", "parent_job", "last_seen",
          "start_time", "finish_time", "updated_time", "nodes", "cpus", "work_dir", "created_work_dir", "resubmit", "local_user")
STATES = {"PENDING": "PENDING", "CONFIGURING": "PENDING", "RUNNING": "EXECUTING", "SUSPENDED": "EXECUTING", "COMPLETING": "COMPLETING",
          "COMPLETED": "FINISHED"}


class Refused(Exception):
    pass


def check(value, kind, where):
    """Raises where a value is none of this kind."""
    if isinstance(kind, dict):
        if not isinstance(value, dict):
            raise Refused(f"{where} is no object")
        for name, member in value.items():
            if name not in kind:
                raise Refused(f'Unrecognized field "{where}.{name}"')
            check(member, kind[name], f"{where}.{name}")
    elif isinstance(kind, list):
        for number, member in enumerate(value if isinstance(value, list) else [value]):
            check(member, kind[0], f"{where}[{number}]")
    elif isinstance(kind, tuple):
        if value not in kind:
            raise Refused(f"{where} is none of {kind}")
    elif kind == MAP:
        if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
            raise Refused(f"{where} is no map of texts")
    elif not isinstance(value, str if kind == TEXT else int) or isinstance(value, bool):
        raise Refused(f"{where} is no {kind}")


def sbatch(script, options):
    done = subprocess.run(["sbatch", "--parsable", *options], input=script, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout.strip()


def submit_description(job):
    """What the gateway does with a JobDescription; returns Slurm's number."""
    check(job, FIELDS, "job")
    execution, resources = job["execution"], job["resources"]
    if len(resources["components"]) != 1:
        raise Refused("one component, no more")
    component = resources["components"][0]
    if component["total_cores"] != component["total_nodes"] * component["cores_per_node"]:
        raise Refused("total_cores is not total_nodes times cores_per_node")
    if not re.fullmatch(r"\d+:\d\d:\d\d", resources["wall_clock"]):
        raise Refused("wall_clock is no hh:mm:ss")
    folder = pathlib.Path(execution["directory"])
    if folder.exists() and execution["directory_policy"]["create"] == "OVERWRITE":
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # Cores, not tasks, is all that a component tells.
    options = [f"--nodes={component['total_nodes']}", f"--ntasks-per-node={component['cores_per_node']}", f"--time={resources['wall_clock']}",
               f"--partition={resources.get('queue', 'main')}", f"--chdir={folder}", f"--output={execution['std_outerr']}"]
    if "memory_per_node" in component:
        options.append(f"--mem={component['memory_per_node']}M")
    if job.get("note"):
        options.append(f"--job-name=qcg-{job['note'].split()[-1]}")
    environment = execution.get("environment", {})
    script = "#!/bin/bash\n" + "".join(f"export {name}='{value}'\n" for name, value in environment.items())
    words = " ".join([execution["executable"], *execution.get("args", [])]).split()
    quoted = shlex.join(words)
    return sbatch(f"{script}exec {quoted}\n", options + component.get("native", []))


def submit_script(path):
    """qcg-sub: the lines that begin with #QCG; the file itself is run. Returns Slurm's number."""
    text = pathlib.Path(path).read_text()
    options = []
    for line in text.splitlines():
        if not line.startswith("#QCG"):
            continue
        key, value = line[len("#QCG"):].strip().split("=", 1)
        if key == "nodes":
            nodes, cores, _ = value.split(":")
            options += [f"--nodes={nodes}", f"--ntasks-per-node={cores}"]
        elif key == "walltime":
            options.append("--time=" + re.fullmatch(r"PT(\d+)M", value)[1])
        elif key in ("output", "error"):
            options.append(f"--{key}={value.replace('${JOB_ID}', '%j')}")
        elif key == "native":
            options += value.split()
        elif key == "memory":
            options.append(f"--mem={value}M")
        elif key == "queue":
            options.append(f"--partition={value}")
        elif key != "note":
            raise Refused(f"no such directive: {key}")
    return sbatch(text, options)


class Gateway:
    """The REST interface under /api of a port of its own; one token is good."""

    def __init__(self, token):
        self.token, self.jobs = token, {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def answer(self, code, document):
                body = json.dumps(document).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def handle_one(self):
                if self.headers.get("Authorization") != f"Bearer {outer.token}":
                    return self.answer(401, {"detail": "Authentication credentials were not provided."})
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.command == "POST" and self.path == "/api/jobs/":
                    try:
                        job = json.loads(body)
                        number = submit_description(job)
                    except (Refused, KeyError, ValueError) as error:
                        return self.answer(400, {"detail": str(error)})
                    outer.jobs[str(900 + len(outer.jobs))] = (number, job)
                    return self.answer(201, outer.report(list(outer.jobs)[-1]))
                found = re.fullmatch(r"/api/jobs/(\w+)", self.path)
                if not found or found[1] not in outer.jobs:
                    return self.answer(404, {"detail": "Not found."})
                if self.command == "DELETE":
                    subprocess.run(["scancel", outer.jobs[found[1]][0]], check=True)
                    return self.answer(204, {})
                return self.answer(200, outer.report(found[1]))

            do_GET = do_POST = do_DELETE = handle_one

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}/api"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def report(self, job):
        number, description = self.jobs[job]
        shown = subprocess.run(["scontrol", "--oneliner", "show", "job", number], capture_output=True, text=True, check=True).stdout
        native = re.search(r"JobState=(\w+)", shown)[1]
        state = STATES.get(native, "FAILED")
        code = int(re.search(r"ExitCode=(\d+):", shown)[1])
        return dict.fromkeys(ANSWER) | {"id": job, "note": description.get("note"), "description": description, "state": state,
                                        "queue": "main", "local_id": number, "exit_code": code,
                                        "errors": native if state == "FAILED" else None}

    def close(self):
        self.server.shutdown()
        self.server.server_close()
