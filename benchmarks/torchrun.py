"""A peer under torchrun with two processes of one thread that answers lines with JSON."""

import json
import os
import pathlib
import subprocess
import sys

PEERS = pathlib.Path(__file__).parent / "peers"


class Torchrun:
    def __init__(self, peer):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(PEERS / peer)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"})

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())
