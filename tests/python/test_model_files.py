"""The model file in Python: opened by safetensors, loaded strictly by torchvision, the same numbers."""

import json
import subprocess

import h5py
import numpy
import pytest
import torch
import torchvision
from conftest import HADAL
from torch.nn import functional


@pytest.mark.parametrize("kind", ["resnet18", "resnet34", "resnet50"])
def test_torchvision_loads_the_file_and_gives_the_programs_own_metrics(run, kind):
    random = numpy.random.default_rng(8)
    x = random.standard_normal((40, 3, 32, 32)).astype(numpy.float32)
    y = random.integers(0, 7, 40)
    run.data(x, y)
    run.train(
        f'[model]\nkind = "{kind}"\noptions = {{ classes = 7 }}\n'
        '[objective]\nmetrics = ["accuracy", "top3_accuracy"]\n'
        "[train]\nsteps = 3\nglobal_batch = 16\nmicro_batch = 8\n"
        '[optimizer]\nkind = "sgd"\nlr = 0.01\nmomentum = 0.9\n'
    )
    module = getattr(torchvision.models, kind)(num_classes=7)
    module.load_state_dict(run.model(), strict=True)
    module.eval()
    with torch.no_grad():
        # In the program's micro-batches: another batch size would give other bits.
        logits = torch.cat([module(part) for part in torch.from_numpy(x).split(8)])
    labels = torch.from_numpy(y)
    text = subprocess.run(
        [HADAL, "evaluate", str(run.folder / "run.toml"), "--data", "train", "--json"],
        capture_output=True, text=True, check=True,
    ).stdout
    got = json.loads(text)
    losses = functional.cross_entropy(logits, labels, reduction="none").double()
    assert got["samples"] == 40
    assert got["loss"] == pytest.approx(losses.mean().item(), rel=1e-12)
    assert got["accuracy"] == (logits.argmax(1) == labels).double().mean().item()
    top3 = (logits.topk(3).indices == labels[:, None]).any(1).double().mean().item()
    assert got["top3_accuracy"] == top3


@pytest.mark.parametrize("kind", ["resnet18", "resnet50"])
def test_names_and_shapes_are_torchvisions(run, kind):
    run.data(numpy.zeros((8, 3, 32, 32), numpy.float32), numpy.zeros(8, numpy.int64))
    run.train(
        f'[model]\nkind = "{kind}"\noptions = {{ classes = 5 }}\n'
        "[train]\nsteps = 1\nglobal_batch = 8\nmicro_batch = 8\n"
        '[optimizer]\nkind = "sgd"\nlr = 0.01\n'
    )
    ours = {name: (tuple(t.shape), t.dtype) for name, t in run.model().items()}
    module = getattr(torchvision.models, kind)(num_classes=5)
    theirs = {name: (tuple(t.shape), t.dtype) for name, t in module.state_dict().items()}
    assert ours == theirs


def test_regression_metrics_equal_numpys(run):
    random = numpy.random.default_rng(9)
    x = random.standard_normal((50, 6)).astype(numpy.float32)
    y = random.standard_normal((50, 2)).astype(numpy.float32)
    run.data(x, y)
    run.train(
        '[model]\nkind = "mlp"\noptions = { hidden = [5] }\n'
        '[objective]\nloss = "mse"\nmetrics = ["mae", "rmse", "r2"]\n'
        "[train]\nsteps = 5\nglobal_batch = 8\nmicro_batch = 4\n"
        '[optimizer]\nkind = "adamw"\nlr = 0.01\n'
    )
    state = run.model()
    hidden = torch.relu(torch.from_numpy(x) @ state["1.weight"].T + state["1.bias"])
    output = (hidden @ state["4.weight"].T + state["4.bias"]).double().numpy()
    text = subprocess.run(
        [HADAL, "evaluate", str(run.folder / "run.toml"), "--data", "train", "--json"],
        capture_output=True, text=True, check=True,
    ).stdout
    got = json.loads(text)
    error = output - y
    assert got["mae"] == pytest.approx(numpy.abs(error).mean(), rel=1e-6)
    assert got["rmse"] == pytest.approx(numpy.sqrt((error**2).mean()), rel=1e-6)
    assert got["r2"] == pytest.approx(1 - (error**2).sum() / ((y - y.mean()) ** 2).sum(), rel=1e-6)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<f8", "u1", ">i2", "bool"])
@pytest.mark.parametrize("storage", [{}, {"chunks": (7, 3)}, {"chunks": (16, 12), "compression": "gzip", "shuffle": True, "fletcher32": True}])
def test_stored_types_and_layouts_change_no_number(run, dtype, storage):
    """h5py's own writing of the same values, in every type and layout: one loss."""
    values = numpy.random.default_rng(10).integers(0, 2, (32, 12))
    run.data(values.astype(numpy.float32), values[:, 0])
    rest = (
        '[model]\nkind = "mlp"\noptions = { classes = 2, hidden = [4] }\n'
        "[train]\nsteps = 4\nglobal_batch = 8\nmicro_batch = 4\n"
        '[optimizer]\nkind = "sgd"\nlr = 0.1\n'
    )
    expected = [step["loss"] for step in run.train(rest)]
    with h5py.File(run.folder / "train.h5", "w") as file:
        file.create_dataset("x", data=values.astype(dtype), **storage)
        file["y"] = values[:, 0].astype(">i4")
    subprocess.run(["rm", "-r", str(run.folder / "run")], check=True)
    assert [step["loss"] for step in run.train(rest)] == expected
