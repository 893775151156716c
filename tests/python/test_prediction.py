"""Predictions against the module's own outputs."""

import hashlib
import subprocess
import time

import h5py
import numpy
import pytest
import torch
import torchvision
from conftest import HADAL, ROOT
from test_exported_programs import hadal_export
from torch import nn

FIELDS = 'inputs.x.path = "x"\ntargets.y.path = "y"\n'
TRAIN = "[train]\nsteps = 1\nglobal_batch = 4\nmicro_batch = 4\n" '[optimizer]\nkind = "sgd"\nlr = 0.01\n'


def applied(run, module, x, *, batch=4, extra="", arguments=(), fields=FIELDS):
    """The predictions for x by the exported module, as the file holds them."""
    torch.manual_seed(1)
    run.fields(x=x, id=numpy.arange(len(x)) * 3 + 7)
    hadal_export.export(module, (torch.from_numpy(x[:batch]),), run.folder / "net.pt2")
    run.config('[model]\nprogram = "net.pt2"\n' + extra + TRAIN, fields)
    run.hadal("predict", "--data", "train.h5", "--output", "out.h5", *arguments)
    with h5py.File(run.folder / "out.h5") as file:
        return {name: file[name][:] for name in file}


def eager(module, x, batch=4):
    """In batches of the same size: another one would give other bits. The last is filled up."""
    module.eval()
    full = numpy.concatenate([x, numpy.repeat(x[-(len(x) % batch or batch):][:1], -len(x) % batch, 0)])
    with torch.no_grad():
        return torch.cat([module(part) for part in torch.from_numpy(full).split(batch)])[: len(x)].numpy()


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "swin_t"])
def test_networks_with_random_layers_predict_what_eager_pytorch_does(run, name):
    """Dropout and stochastic depth as they come: the archive's evaluation program has none."""
    torch.manual_seed(2)
    module = getattr(torchvision.models, name)(num_classes=5)
    x = numpy.random.default_rng(1).standard_normal((10, 3, 32, 32)).astype("f4")
    got = applied(run, module, x)
    assert numpy.array_equal(got["output"], eager(module, x))
    assert numpy.array_equal(got["index"], numpy.arange(10))


def classifier():
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))


def test_classes_probabilities_and_ids(run):
    module = classifier()
    x = numpy.random.default_rng(1).standard_normal((11, 3, 2, 2)).astype("f4")
    fields = FIELDS + 'ids.path = "id"\n'
    classes = applied(run, module, x, arguments=("--as", "classes"), fields=fields)
    logits = eager(module, x)
    assert numpy.array_equal(classes["output"], logits.argmax(1))
    assert numpy.array_equal(classes["ids"], numpy.arange(11) * 3 + 7)
    shares = applied(run, module, x, arguments=("--as", "probabilities"))
    assert numpy.array_equal(shares["output"], torch.from_numpy(logits).softmax(1).numpy())


def test_a_model_without_an_evaluation_program_is_flipped_or_refused(run):
    x = numpy.random.default_rng(1).standard_normal((8, 3, 2, 2)).astype("f4")
    module = classifier()
    run.fields(x=x)
    run.config('[model]\nprogram = "net.pt2"\n' + TRAIN, FIELDS)
    torch.export.save(torch.export.export(module.train(), (torch.from_numpy(x[:4]),)), run.folder / "net.pt2")
    run.hadal("predict", "--data", "train.h5", "--output", "out.h5")
    with h5py.File(run.folder / "out.h5") as file:
        assert numpy.array_equal(file["output"][:], eager(module, x))
    module = nn.Sequential(torchvision.ops.StochasticDepth(0.5, "row"), classifier())
    torch.export.save(torch.export.export(module.train(), (torch.from_numpy(x[:4]),)), run.folder / "net.pt2")
    refused = run.hadal("predict", "--data", "train.h5", "--output", "out.h5", code=66)
    assert "cannot be turned off" in refused.stderr and "bernoulli" in refused.stderr


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_ranks_and_cuts_change_no_byte_of_the_file(run):
    """Killed again and again while it writes, on other numbers of ranks each time."""
    torch.manual_seed(2)
    module = torchvision.models.resnet18(num_classes=10)
    x = numpy.random.default_rng(1).standard_normal((150, 3, 48, 48)).astype("f4")
    applied(run, module, x, batch=4)
    expected = digest(run.folder / "out.h5")
    for ranks in (2, 3, 4):
        run.hadal("predict", "--data", "train.h5", "--output", f"ranks {ranks}.h5", ranks=ranks)
        assert digest(run.folder / f"ranks {ranks}.h5") == expected
    cut = run.folder / "cut.h5"
    kills = 0
    for attempt in range(40):
        ranks = 1 + attempt % 3
        command = [HADAL, "predict", str(run.folder / "run.toml"), "--data", "train.h5", "--output", str(cut)]
        if ranks > 1:
            command = ["bash", str(ROOT / "tests" / "mpi" / "mpirun.sh"), str(ranks), *command]
        process = subprocess.Popen(command, cwd=run.folder, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(0.4 + 0.15 * attempt)
        if process.poll() is None:
            kills += 1
            subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)
        process.wait()
        if cut.exists():
            break
    assert kills > 0
    assert digest(cut) == expected
    assert [path.name for path in run.folder.glob("cut*")] == ["cut.h5"]


def test_an_unfinished_file_of_another_model_is_not_gone_on_with(run):
    x = numpy.random.default_rng(1).standard_normal((9, 3, 2, 2)).astype("f4")
    first = classifier()
    applied(run, first, x)
    # As if it had been cut off: the plan of the first model, with a block that claims to be done.
    (run.folder / "out.h5").rename(run.folder / "out.h5.partial")
    (run.folder / "out.h5.partial.json").write_text('{"identity": {}, "plan": {}}')
    (run.folder / "out.h5.partial.done-0").write_bytes(numpy.arange(3, dtype="i8").tobytes())
    torch.manual_seed(9)
    second = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    got = applied(run, second, x)
    assert numpy.array_equal(got["output"], eager(second, x))
