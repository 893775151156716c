"""Helpers to drive the program next to PyTorch. Both flush denormals to zero, on one thread."""

import json
import os
import pathlib
import subprocess

import h5py
import numpy
import pytest
import safetensors.torch
import torch

torch.set_flush_denormal(True)
torch.set_num_threads(1)

HADAL = os.environ["HADAL"]
# What `hadal chaos` loads before its ranks (launch/faults).
FAULTS = pathlib.Path(HADAL).parents[1] / "lib" / "hadal" / "libhadal_faults.so"
ROOT = pathlib.Path(__file__).parents[2]


class Run:
    """A run of the program in a folder of its own."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder

    def data(self, x: numpy.ndarray, y: numpy.ndarray) -> None:
        self.fields(x=x, y=y)

    def fields(self, **arrays: numpy.ndarray) -> None:
        with h5py.File(self.folder / "train.h5", "w") as file:
            for name, array in arrays.items():
                file[name] = array

    def config(self, config: str, fields: str = 'inputs.x.path = "x"\ntargets.y.path = "y"\n') -> pathlib.Path:
        path = self.folder / "run.toml"
        path.write_text('[run]\ndir = "run"\n[data]\ntrain = "train.h5"\nshuffle = "none"\n' + fields + config)
        return path

    def set(self, section: str, line: str) -> None:
        """Puts a line into a section of the config that is there."""
        path = self.folder / "run.toml"
        path.write_text(path.read_text().replace(section + "\n", f"{section}\n{line}\n", 1))

    def train(self, config: str | None = None, **fields: str) -> list[dict]:
        """Trains with this config, or the one that is there, and returns the metrics of every step."""
        path = self.folder / "run.toml" if config is None else self.config(config, **fields)
        done = subprocess.run([HADAL, "train", str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        lines = (self.folder / "run" / "metrics.jsonl").read_text().splitlines()
        return [line for line in map(json.loads, lines) if line["kind"] == "train"]

    def hadal(self, verb: str, *arguments: str, ranks: int = 1, code: int = 0) -> subprocess.CompletedProcess:
        """The program with the run's config, under mpirun for several ranks."""
        command = [HADAL, verb, str(self.folder / "run.toml"), *arguments]
        if ranks > 1:
            command = ["bash", str(ROOT / "tests" / "mpi" / "mpirun.sh"), str(ranks), *command]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.folder)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def order(self, steps: int) -> dict[tuple[int, int], list[int]]:
        """(step, micro-batch), both from 0, to its samples."""
        text = subprocess.run(
            [HADAL, "plan", str(self.folder / "run.toml"), "--ranks", "1", "--order", str(steps)],
            capture_output=True, text=True, check=True,
        ).stdout
        found = {}
        for line in text.splitlines():
            if line.startswith("order: "):
                head, ids = line[len("order: "):].split(":")
                _, step, _, micro = head.split()
                found[int(step) - 1, int(micro)] = [int(i) for i in ids.split()]
        return found

    def model(self) -> dict[str, torch.Tensor]:
        return safetensors.torch.load_file(self.folder / "run" / "model" / "model.safetensors")

    def assert_same_state(self, module: torch.nn.Module) -> None:
        """The model's names and values are the module's state dict, bit for bit."""
        state, expected = self.model(), module.state_dict()
        assert set(state) == set(expected)
        for key, value in expected.items():
            assert torch.equal(state[key], value), key

    def start_from(self, module: torch.nn.Module) -> None:
        state = {name: value.clone().contiguous() for name, value in module.state_dict().items()}
        safetensors.torch.save_file(state, self.folder / "start.safetensors")


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)
