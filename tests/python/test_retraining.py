"""Retraining in part, groups of parameters, and weights under other names."""

import json

import numpy
import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn
from torch.nn import functional

from test_exported_programs import hadal_export

SGD = 'kind = "sgd"\nlr = 0.05\nmomentum = 0.9\nweight_decay = 0.01\nno_decay = []\n'
RESNET = '[model]\nkind = "resnet18"\noptions = { classes = 4 }\nweights = "start.safetensors"\n'


def train(steps=4):
    return f"[train]\nsteps = {steps}\nglobal_batch = 8\nmicro_batch = 8\nclip_norm = 0.5\n[optimizer]\n{SGD}"


def data(run, classes=4, size=32, count=32):
    random = numpy.random.default_rng(5)
    x = random.standard_normal((count, 3, size, size)).astype("f4")
    y = random.integers(0, classes, count)
    run.data(x, y)
    return torch.from_numpy(x), torch.from_numpy(y)


def start(run, module):
    safetensors.torch.save_file(module.state_dict(), run.folder / "start.safetensors")
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_only_the_new_head_is_trained(run):
    data(run)
    torch.manual_seed(1)
    before = start(run, torchvision.models.resnet18(num_classes=1000))
    groups = (
        '[[optimizer.group]]\nmatch = ["*"]\nfreeze = true\nkeep_statistics = true\n'
        '[[optimizer.group]]\nmatch = ["fc.*"]\n'
    )
    run.train(RESNET + 'reset = ["fc.*"]\n' + train() + groups)
    after = run.model()
    assert after["fc.weight"].shape == (4, 512)
    for name, value in before.items():
        if not name.startswith("fc."):
            assert torch.equal(after[name], value), name
    assert after["fc.weight"].abs().max() > 0
    optimizer = safetensors.torch.load_file(
        next((run.folder / "run" / "checkpoints").glob("step-*/optimizer.safetensors")))
    assert sorted(optimizer) == ["momentum_buffer/fc.bias", "momentum_buffer/fc.weight"]
    plan = json.loads(run.hadal("plan", "--json", "--ranks", "1").stdout)
    head = 4 * 512 + 4
    assert plan["parameters"] == head
    assert plan["frozen_parameters"] == sum(v.numel() for k, v in before.items() if "running" not in k
                                            and "tracked" not in k and not k.startswith("fc."))
    # Each of the two parameters begins at a multiple of 64 bytes.
    assert plan["gradient_bytes_per_worker"] == 2 * 4 * (4 * 512 + 16)


@pytest.mark.parametrize("exported", [False, True])
def test_groups_follow_pytorchs_parameter_groups(run, exported):
    x, y = data(run)
    torch.manual_seed(1)
    module = torchvision.models.resnet18(num_classes=4)
    start(run, module)
    hadal_export.export(module, (x[:8],), run.folder / "net.pt2")
    module.train()
    steps = 6
    groups = (
        '[[optimizer.group]]\nmatch = ["conv1.*", "bn1.*"]\nfreeze = true\n'
        '[[optimizer.group]]\nmatch = ["layer4.*"]\nlr_scale = 0.25\nweight_decay = 0.1\n'
        '[[optimizer.group]]\nmatch = ["layer1.*"]\nfreeze = true\nuntil = "3st"\n'
    )
    model = '[model]\nprogram = "net.pt2"\n' if exported else RESNET
    metrics = run.train(model + train(steps) + groups)

    def named(*prefixes):
        return [p for n, p in module.named_parameters() if n.startswith(prefixes)]

    layer1 = named("layer1.")
    for p in named("conv1.", "bn1.") + layer1:
        p.requires_grad_(False)
    peer = torch.optim.SGD(
        [
            {"params": named("layer2.", "layer3.", "fc."), "lr": 0.05, "weight_decay": 0.01},
            {"params": named("layer4."), "lr": 0.0125, "weight_decay": 0.1},
            {"params": layer1, "lr": 0.05, "weight_decay": 0.01},
        ],
        lr=0.05, momentum=0.9,
    )
    order = run.order(steps)
    for step in range(steps):
        if step == 3:
            for p in layer1:
                p.requires_grad_(True)
        ids = order[step, 0]
        peer.zero_grad()
        loss = functional.cross_entropy(module(x[ids]), y[ids])
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(module.parameters(), 0.5)
        peer.step()
        assert metrics[step]["loss"] == pytest.approx(loss.item(), rel=1e-4), f"step {step + 1}"
        assert metrics[step]["grad_norm"] == pytest.approx(norm.item(), rel=1e-3), f"step {step + 1}"
    for name, value in module.state_dict().items():
        assert torch.allclose(run.model()[name].double(), value.double(), rtol=1e-3, atol=1e-5), name


class Aside(nn.Module):
    """The second head feeds no loss: its parameters get no gradient and must not decay."""

    def __init__(self):
        super().__init__()
        self.body, self.head, self.aside = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 2)

    def forward(self, x):
        h = torch.relu(self.body(x))
        return self.head(h), self.aside(h)


def test_what_no_gradient_reaches_is_left_alone(run):
    torch.manual_seed(1)
    module = Aside()
    x = torch.randn(32, 6)
    y = torch.randint(0, 3, (32,))
    run.data(x.numpy(), y.numpy())
    hadal_export.export(module, (x[:8],), run.folder / "net.pt2")
    run.train('[model]\nprogram = "net.pt2"\n' + train())
    for name, value in module.aside.state_dict().items():
        assert torch.equal(run.model()["aside." + name], value)
    assert not torch.equal(run.model()["head.weight"], module.head.weight)


def test_weights_under_other_names_and_in_several_files(run):
    data(run)
    torch.manual_seed(1)
    module = torchvision.models.resnet18(num_classes=4)
    state = {"net.backbone." + name: value.half() if value.is_floating_point() else value
             for name, value in module.state_dict().items()}
    names = sorted(state)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2])):
        file = f"part-{number}.safetensors"
        safetensors.torch.save_file({name: state[name] for name in part}, run.folder / file)
        weight_map.update({name: file for name in part})
    (run.folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    base = RESNET.replace("start.safetensors", "model.safetensors.index.json")
    optimizer = train(1).replace("lr = 0.05", "lr = 1e-300")
    run.config(base + optimizer)
    table = run.hadal("train", code=66).stderr
    assert "0 tensors match, 122 missing, 122 not in the model" in table
    assert "missing: fc.weight [4, 512]" in table and "model.key_map" in table
    run.train(base + 'key_map = [["^net\\\\.", ""], ["^backbone\\\\.(.*)$", "$1"]]\n' + optimizer)
    for name, value in module.state_dict().items():
        if "running" not in name and "tracked" not in name:
            assert torch.equal(run.model()[name], value.half().float()), name


def test_weights_that_fit_in_part(run):
    data(run)
    torch.manual_seed(1)
    before = start(run, torchvision.models.resnet18(num_classes=7))
    run.config(RESNET + train(1))
    misfit = run.hadal("train", code=66).stderr
    assert "fc.weight has the shape [7, 512], the model needs [4, 512]" in misfit
    del before["fc.weight"], before["fc.bias"]
    before["extra"] = torch.zeros(2)
    safetensors.torch.save_file(before, run.folder / "start.safetensors")
    strict = run.hadal("train", code=66).stderr
    assert "missing: fc.bias [4]" in strict and "not in the model: extra" in strict
    loose = run.hadal("train", "--set", "model.strict=false").stderr
    assert "120 tensors match, 2 missing, 1 not in the model" in loose
    torch.save(before, run.folder / "old.pt")
    pickled = run.hadal("train", "--set", "model.weights=old.pt", "--set", "run.dir=other", code=66).stderr
    assert "weights_only=True" in pickled


def test_the_trained_program_goes_back_to_python(run):
    x, y = data(run)
    torch.manual_seed(1)
    module = torchvision.models.mobilenet_v3_small(num_classes=4)
    hadal_export.export(module, (x[:8],), run.folder / "net.pt2")
    run.train('[model]\nprogram = "net.pt2"\n' + train(3))
    trained = run.model()
    run.hadal("export", "--to", "pt2", "--output", "trained.pt2")
    program = torch.export.load(run.folder / "trained.pt2")
    for name, value in program.state_dict.items():
        assert torch.equal(value, trained[name]), name
    # It is a program like any other: it can be applied, and gives the numbers of the run.
    losses = [
        json.loads(run.hadal("evaluate", "--data", "train", "--json", *extra).stdout)["loss"]
        for extra in ([], ["--set", "model.program=trained.pt2", "--set", "run.dir=nowhere"])
    ]
    assert losses[0] == losses[1]
    module.load_state_dict(trained)
    module.eval()
    with torch.no_grad():
        expected = functional.cross_entropy(torch.cat([module(p) for p in x.split(8)]).double(), y)
    assert losses[0] == pytest.approx(expected.item(), rel=1e-6)
    run.hadal("export", "--output", "weights.safetensors")
    copy = safetensors.torch.load_file(run.folder / "weights.safetensors")
    assert all(torch.equal(copy[name], value) for name, value in trained.items())
    run.hadal("export", "--to", "onnx-helper", "--output", "to_onnx.py")
    assert "torch.onnx.export" in (run.folder / "to_onnx.py").read_text()


def test_programs_that_do_not_train_are_refused_with_what_to_do(run):
    x, _ = data(run)
    module = torchvision.models.resnet18(num_classes=4)
    module.eval()
    torch.export.save(torch.export.export(module, (x[:8],)), run.folder / "net.pt2")
    run.config('[model]\nprogram = "net.pt2"\n' + train(1))
    assert "call model.train()" in run.hadal("train", code=66).stderr
    assert "evaluation mode" in run.hadal("check", "--data", code=66).stderr
    hadal_export.export(module, (x[:8],), run.folder / "net.pt2")
    other = run.hadal("train", "--set", "train.micro_batch=4", code=78).stderr
    assert "set it to 8" in other and "--input 4," in other


def test_another_program_under_the_same_names_is_another_run(run):
    x, y = torch.randn(32, 6), torch.randint(0, 3, (32,))
    run.data(x.numpy(), y.numpy())

    def export(activation):
        torch.manual_seed(1)
        module = nn.Sequential(nn.Linear(6, 8), activation, nn.Linear(8, 3))
        hadal_export.export(module, (x[:8],), run.folder / "net.pt2")

    export(nn.ReLU())
    run.train('[model]\nprogram = "net.pt2"\n' + train(2))
    export(nn.Tanh())
    refused = run.hadal("train", code=78).stderr
    assert "model.program: its graph is not the one the run began with" in refused
    export(nn.ReLU())
    run.hadal("train")
