"""Losses and metrics of real tasks against their definitions in numpy and torch."""

import json

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional

from test_exported_programs import hadal_export

OPTIMIZER = '[optimizer]\nkind = "sgd"\nlr = 0.05\nno_decay = []\n'


class Case:
    """A module trained for some steps at V micro-batches; its outputs and the program's evaluation."""

    def __init__(self, run, module, x, y, objective, micro=4, extra=None, fields=""):
        self.run, self.module, self.micro = run, module, micro
        run.fields(x=x, y=y, **(extra or {}))
        hadal_export.export(module, (torch.from_numpy(x[:micro]),), run.folder / "net.pt2")
        kinds = ["float32" if a.dtype.kind == "f" else "int64" for a in (x, y)]
        self.metrics = run.train(
            f'[model]\nprogram = "net.pt2"\n[objective]\n{objective}'
            f"[train]\nsteps = 6\nglobal_batch = 8\nmicro_batch = {micro}\n" + OPTIMIZER,
            fields=f'inputs.x.path = "x"\ninputs.x.dtype = "{kinds[0]}"\n'
                   f'targets.y.path = "y"\ntargets.y.dtype = "{kinds[1]}"\n' + fields,
        )
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)

    def follow(self, loss_of):
        """Each loss of the run is that of the whole step in PyTorch."""
        self.module.train()
        peer = torch.optim.SGD(self.module.parameters(), lr=0.05)
        order = self.run.order(6)
        for step, ours in enumerate(self.metrics):
            ids = [i for m in range(8 // self.micro) for i in order[step, m]]
            peer.zero_grad()
            loss = loss_of(self.module(self.x[ids]), self.y[ids], ids)
            loss.backward()
            peer.step()
            assert ours["loss"] == pytest.approx(loss.item(), rel=2e-6), f"step {step + 1}"

    def evaluated(self, ranks=1):
        self.module.load_state_dict(self.run.model())
        self.module.eval()
        with torch.no_grad():
            outputs = torch.cat([self.module(part) for part in self.x.split(self.micro)])
        text = self.run.hadal("evaluate", "--data", "train", "--json", ranks=ranks).stdout
        return json.loads(text), outputs


def segmenter():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))


def table_of(predicted, labels, classes):
    table = numpy.zeros((classes, classes), int)
    numpy.add.at(table, (labels.ravel(), predicted.ravel()), 1)
    return table


def test_segmentation(run):
    random = numpy.random.default_rng(1)
    x = random.standard_normal((16, 3, 6, 6)).astype("f4")
    y = random.integers(0, 4, (16, 6, 6))
    y[random.random(y.shape) < 0.2] = -1
    case = Case(run, segmenter(), x, y,
                'ignore_index = -1\nmetrics = ["accuracy", "iou", "f1_macro", "f1_micro", "confusion"]\n')
    case.follow(lambda o, t, ids: functional.cross_entropy(o, t, ignore_index=-1))
    got, outputs = case.evaluated(ranks=3)
    kept = y >= 0
    table = table_of(outputs.argmax(1).numpy()[kept], y[kept], 4)
    hits, rows, columns = numpy.diag(table), table.sum(1), table.sum(0)
    assert got["tables"]["confusion"] == table.tolist()
    assert got["accuracy"] == got["f1_micro"] == pytest.approx(hits.sum() / table.sum(), rel=1e-12)
    assert got["iou"] == pytest.approx((hits / (rows + columns - hits)).mean(), rel=1e-12)
    assert got["f1_macro"] == pytest.approx((2 * hits / (rows + columns)).mean(), rel=1e-12)


def soft_dice(logits, target):
    share = logits.softmax(1)
    wanted = functional.one_hot(target, 4).movedim(-1, 1)
    both, all_ = (share * wanted).flatten(2).sum(2), (share + wanted).flatten(2).sum(2)
    return (1 - (2 * both + 1) / (all_ + 1)).mean()


def test_dice(run):
    random = numpy.random.default_rng(1)
    x = random.standard_normal((16, 3, 6, 6)).astype("f4")
    y = random.integers(0, 4, (16, 6, 6))
    case = Case(run, segmenter(), x, y, 'loss = "dice"\nmetrics = ["iou"]\n')
    case.follow(lambda o, t, ids: soft_dice(o, t))


def test_many_labels(run):
    random = numpy.random.default_rng(1)
    x = random.standard_normal((40, 12)).astype("f4")
    y = (random.random((40, 3)) < [0.3, 0.5, 0.7]).astype("f4")
    torch.manual_seed(1)
    module = nn.Linear(12, 3)
    case = Case(run, module, x, y, 'loss = "binary_cross_entropy"\n'
                                   'metrics = ["accuracy", "f1_macro", "f1_micro", "auroc"]\n')
    case.follow(lambda o, t, ids: functional.binary_cross_entropy_with_logits(o, t))
    got, outputs = case.evaluated(ranks=2)
    yes, wanted, scores = outputs.numpy() > 0, y > 0.5, outputs.double().numpy()
    hit, wrong, missed = (yes & wanted).sum(0), (yes & ~wanted).sum(0), (~yes & wanted).sum(0)
    assert got["accuracy"] == pytest.approx((yes == wanted).mean(), rel=1e-12)
    assert got["f1_macro"] == pytest.approx((2 * hit / (2 * hit + wrong + missed)).mean(), rel=1e-12)
    assert got["f1_micro"] == pytest.approx(
        2 * hit.sum() / (2 * hit.sum() + wrong.sum() + missed.sum()), rel=1e-12)
    areas = []
    for label in range(3):
        positive, negative = scores[wanted[:, label], label], scores[~wanted[:, label], label]
        above = (positive[:, None] > negative).sum() + 0.5 * (positive[:, None] == negative).sum()
        areas.append(above / (len(positive) * len(negative)))
    assert got["auroc"] == pytest.approx(numpy.mean(areas), rel=1e-12)


def test_language(run):
    random = numpy.random.default_rng(1)
    x = random.integers(0, 9, (16, 5))
    y = random.integers(0, 9, (16, 5))
    torch.manual_seed(1)
    module = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 9))
    case = Case(run, module, x, y, 'metrics = ["perplexity", "accuracy", "top3_accuracy"]\n')
    case.follow(lambda o, t, ids: functional.cross_entropy(o.flatten(0, -2), t.flatten()))
    got, outputs = case.evaluated()
    losses = functional.cross_entropy(outputs.flatten(0, -2), case.y.flatten(), reduction="none").double()
    assert got["perplexity"] == pytest.approx(losses.mean().exp().item(), rel=1e-6)
    assert got["accuracy"] == (outputs.argmax(-1) == case.y).double().mean().item()


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_samples_weigh_what_the_data_says(run, loss):
    random = numpy.random.default_rng(1)
    x = random.standard_normal((16, 12)).astype("f4")
    classes = loss == "cross_entropy"
    y = random.integers(0, 3, 16) if classes else random.standard_normal((16, 3)).astype("f4")
    weights = random.random(16).astype("f4")
    weights[:5] = 0
    torch.manual_seed(1)
    case = Case(run, nn.Linear(12, 3), x, y, f'loss = "{loss}"\n', micro=2,
                extra={"w": weights}, fields='weights.path = "w"\n')

    def weighted(output, target, ids):
        w = torch.from_numpy(weights[ids])
        each = (functional.cross_entropy(output, target, reduction="none") if classes
                else functional.mse_loss(output, target, reduction="none").mean(1))
        return (each * w).sum() / w.sum()

    case.follow(weighted)
    got, outputs = case.evaluated(ranks=2)
    assert got["loss"] == pytest.approx(weighted(outputs, case.y, numpy.arange(16)).item(), rel=1e-6)
