"""TorchScript archives: trained and applied as eager PyTorch does."""

import h5py
import numpy
import pytest
import torch
import torchvision
from test_against_torch import follow
from test_exported_programs import Recurrent, Unet
from torch import nn
from torch.nn import functional

STEPS, BATCH = 6, 4


class Odd(nn.Module):
    """A tied weight, a counter that is assigned anew, a branch on the mode."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)
        self.second.weight = self.first.weight
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        x = x.flatten(1)[:, :5]
        if self.training:
            self.seen = self.seen + 1
        return self.second(torch.relu(self.first(x)))


NETS = {
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=4), (3, 32, 32), 4),
    "unet": (lambda: nn.Sequential(Unet(), nn.Flatten(), nn.LazyLinear(4)), (3, 16, 16), 4),
    "lstm": (Recurrent, (9, 5), 4),
    "odd": (Odd, (7,), 5),
}


def prepare(run, name):
    make, shape, classes = NETS[name]
    torch.manual_seed(1)
    module = make()
    random = numpy.random.default_rng(3)
    x = random.standard_normal((STEPS * BATCH, *shape)).astype("f4")
    y = random.integers(0, classes, STEPS * BATCH)
    module(torch.from_numpy(x[:2]))  # lazy layers take their sizes
    reset_statistics(module)
    run.data(x, y)
    module.train()
    torch.jit.script(module).save(str(run.folder / "net.pt"))
    run.config(
        f'[model]\nscript = "net.pt"\noptions = {{ classes = {classes} }}\n'
        f"[train]\nsteps = {STEPS}\nglobal_batch = {BATCH}\nmicro_batch = {BATCH}\n"
        '[optimizer]\nkind = "sgd"\nlr = 0.01\nmomentum = 0.9\nno_decay = []\n')
    return module, x, y


def reset_statistics(module):
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.reset_running_stats()
        if isinstance(part, Odd):
            part.seen.zero_()


@pytest.mark.parametrize("name", NETS)
def test_scripted_networks_give_eager_pytorchs_bits(run, name):
    module, x, y = prepare(run, name)
    metrics = run.train()
    peer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
    follow(run, module, peer, functional.cross_entropy, x, y, metrics, exact=True)
    run.assert_same_state(module)
    run.hadal("predict", "--data", "train.h5", "--output", "out.h5")
    module.eval()
    with torch.no_grad():
        wanted = torch.cat([module(part) for part in torch.from_numpy(x).split(BATCH)])
    with h5py.File(run.folder / "out.h5") as file:
        assert numpy.array_equal(file["output"][:], wanted.numpy())


def test_ranks_and_workers_change_no_bit(run):
    prepare(run, "lstm")
    models = []
    for ranks, workers in ((1, 1), (1, 2), (3, 1)):
        run.hadal("train", "--set", f"run.dir=run-{ranks}-{workers}", "--set", f"run.workers={workers}",
                  "--set", "train.micro_batch=1", ranks=ranks)
        models.append((run.folder / f"run-{ranks}-{workers}" / "model" / "model.safetensors").read_bytes())
    assert len(set(models)) == 1


def test_what_cannot_train_is_refused_and_says_why(run):
    module, x, _ = prepare(run, "resnet18")
    path = run.folder / "net.pt"
    torch.jit.freeze(torch.jit.script(module.eval())).save(str(path))
    assert "frozen for inference" in run.hadal("train", code=66).stderr
    torch.jit.trace(module.eval(), torch.from_numpy(x[:2])).save(str(path))
    assert "traced in evaluation mode" in run.hadal("train", code=66).stderr
    torch.jit.trace(module.train(), torch.from_numpy(x[:2])).save(str(path))
    assert "cannot be turned off" in run.hadal("evaluate", "--data", "train", code=66).stderr
    torch.save(module.state_dict(), path)
    assert "is no TorchScript archive" in run.hadal("train", code=66).stderr
    path.write_bytes(b"PK nothing of the kind")
    assert "is no TorchScript archive" in run.hadal("train", code=66).stderr
