"""Training against PyTorch's own: the same initial weights, the same samples, the losses compared."""

import copy
import functools

import numpy
import pytest
import torch
import torchvision
from torch.nn import functional

STEPS = 50


def images(count: int, size: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    random = numpy.random.default_rng(3)
    x = random.standard_normal((count, 3, size, size)).astype(numpy.float32)
    return x, random.integers(0, 10, count)


def mlp() -> torch.nn.Module:
    torch.manual_seed(1)
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(192, 64), torch.nn.ReLU(), torch.nn.Dropout(0),
        torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Dropout(0), torch.nn.Linear(32, 16),
    )


def resnet18() -> torch.nn.Module:
    torch.manual_seed(1)
    return torchvision.models.resnet18(num_classes=16)


MODELS = {
    "mlp": (mlp, 8, 'kind = "mlp"\noptions = { classes = 16, hidden = [64, 32] }'),
    "resnet18": (resnet18, 32, 'kind = "resnet18"\noptions = { classes = 16 }'),
}

SGD = 'kind = "sgd"\nlr = 0.01\nmomentum = 0.9\n'


def config(model: str, steps: int, batch: int, micro: int, optimizer: str, rest: str = "") -> str:
    return (
        f'[model]\nweights = "start.safetensors"\n{model}\n'
        f"[train]\nsteps = {steps}\nglobal_batch = {batch}\nmicro_batch = {micro}\n"
        f"[optimizer]\n{optimizer}\n{rest}"
    )


def follow(run, module, peer, loss_of, x, y, metrics, micro_batches=1, exact=False, rel=None, clip=None,
           after_step=lambda: None):
    """Repeats the program's steps with PyTorch and compares every loss (and norm, where clipped)."""
    order = run.order(len(metrics))
    for step, ours in enumerate(metrics):
        ids = [i for micro in range(micro_batches) for i in order[step, micro]]
        peer.zero_grad()
        loss = loss_of(module(torch.from_numpy(x[ids])), torch.from_numpy(y[ids]))
        loss.backward()
        if clip is not None:
            norm = torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
            assert ours["grad_norm"] == pytest.approx(norm.item(), rel=rel), f"step {step + 1}"
        peer.step()
        after_step()
        if exact:
            assert float32(ours["loss"]) == loss.item(), f"step {step + 1}"
        else:
            assert ours["loss"] == pytest.approx(loss.item(), rel=rel), f"step {step + 1}"


class Lamb(torch.optim.Optimizer):
    """You et al. 2020, algorithm 2, with corrected moments; no ratio for what does not decay."""

    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                m = state.setdefault("m", torch.zeros_like(p))
                v = state.setdefault("v", torch.zeros_like(p))
                t = state["t"] = state.get("t", 0) + 1
                m.mul_(0.9).add_(p.grad, alpha=0.1)
                v.mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
                with torch.no_grad():
                    update = m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + 1e-8) + group["decay"] * p
                    ratio = (p.norm() / update.norm()).item() if group["decay"] else 1
                    p.sub_(update, alpha=group["lr"] * ratio)


class Lars(torch.optim.Optimizer):
    """You et al. 2017 with SGD's momentum on the scaled gradient; no ratio for what does not decay."""

    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                with torch.no_grad():
                    ratio, decay = 1, group["decay"]
                    if decay:
                        ratio = (0.001 * p.norm() / (p.grad.norm() + decay * p.norm())).item()
                    buffer = self.state[p].setdefault("b", torch.zeros_like(p))
                    buffer.mul_(0.9).add_(ratio * (p.grad + decay * p))
                    p.sub_(buffer, alpha=group["lr"])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind,reference,lr", [("lamb", Lamb, 1e-3), ("lars", Lars, 0.1)])
def test_lamb_and_lars_follow_their_papers(run, name, kind, reference, lr):
    make, size, model = MODELS[name]
    module = make()
    x, y = images(80, size)
    run.data(x, y)
    run.start_from(module)
    # Batch norm over sixteen samples amplifies a last bit tenfold from step to step.
    steps, rel = (20, 1e-5) if name == "mlp" else (3, 1e-4)
    metrics = run.train(config(
        model, steps, 16, 16, f'kind = "{kind}"\nlr = {lr}\nmomentum = 0.9\nweight_decay = 0.05\n'))
    parameters = list(module.parameters())
    groups = [{"params": [p for p in parameters if p.dim() >= 2], "decay": 0.05},
              {"params": [p for p in parameters if p.dim() < 2], "decay": 0.0}]
    peer = reference(groups, {"lr": lr})
    follow(run, module, peer, functional.cross_entropy, x, y, metrics, rel=rel)


def float32(value: float) -> float:
    return float(numpy.float32(value))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("decay,nesterov", [(0.0, False), (5e-4, True)])
def test_sgd_with_one_micro_batch_gives_torchs_own_bits(run, name, decay, nesterov):
    make, size, model = MODELS[name]
    module = make()
    x, y = images(80, size)
    run.data(x, y)
    run.start_from(module)
    optimizer = SGD + f"weight_decay = {decay}\nno_decay = []\nnesterov = {str(nesterov).lower()}"
    metrics = run.train(config(model, STEPS, 16, 16, optimizer))
    peer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, weight_decay=decay, nesterov=nesterov)
    follow(run, module, peer, functional.cross_entropy, x, y, metrics, exact=True)
    run.assert_same_state(module)


@pytest.mark.parametrize("name", MODELS)
def test_eight_micro_batches_give_the_bits_of_the_steps_definition(run, name):
    """Scaled losses, a tree of sums, one update, buffers averaged: written with torch operators."""
    make, size, model = MODELS[name]
    module = make()
    x, y = images(160, size)
    run.data(x, y)
    run.start_from(module)
    steps = 12
    metrics = run.train(config(model, steps, 32, 4, SGD + "no_decay = []"))
    peer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
    xs, ys = torch.from_numpy(x), torch.from_numpy(y)
    order = run.order(steps)

    def tree(values):
        while len(values) > 1:
            values = [a + b for a, b in zip(values[::2], values[1::2])]
        return values[0]

    for step in range(steps):
        start = copy.deepcopy(module.state_dict())
        losses, gradients, buffers = [], [], []
        for micro in range(8):
            module.load_state_dict(start)
            module.zero_grad()
            ids = order[step, micro]
            loss = functional.cross_entropy(module(xs[ids]), ys[ids]) * 0.125
            loss.backward()
            losses.append(loss.detach())
            gradients.append([p.grad.clone() for p in module.parameters()])
            buffers.append({k: b.clone() for k, b in module.named_buffers()})
        assert float32(metrics[step]["loss"]) == tree(losses).item(), f"step {step + 1}"
        for p, *parts in zip(module.parameters(), *gradients):
            p.grad = tree(parts)
        for key, buffer in module.named_buffers():
            parts = [b[key] for b in buffers]
            same = all(torch.equal(parts[0], part) for part in parts)
            buffer.copy_(parts[0] if same else tree(parts) / 8)
        peer.step()
    run.assert_same_state(module)


@pytest.mark.parametrize("name", MODELS)
def test_adamw_gives_the_bits_of_torchs_fused_one(run, name):
    """Every tensor has a multiple of 16 elements: what is left of a vector PyTorch rounds in another way."""
    make, size, model = MODELS[name]
    module = make()
    x, y = images(80, size)
    run.data(x, y)
    run.start_from(module)
    optimizer = 'kind = "adamw"\nlr = 1e-4\nweight_decay = 0.01\nno_decay = []'
    metrics = run.train(config(model, 20, 16, 16, optimizer))
    peer = torch.optim.AdamW(module.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    follow(run, module, peer, functional.cross_entropy, x, y, metrics, exact=True)
    run.assert_same_state(module)


def test_the_model_is_the_moving_average(run):
    module = mlp()
    x, y = images(80, 8)
    run.data(x, y)
    run.start_from(module)
    text = config(MODELS["mlp"][2], 20, 16, 16, SGD).replace("[train]\n", "[train]\nema = 0.9\n")
    metrics = run.train(text)
    average = torch.optim.swa_utils.AveragedModel(module, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    average.update_parameters(module)  # the first one copies
    peer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
    # The average changes nothing in training.
    follow(run, module, peer, functional.cross_entropy, x, y, metrics, exact=True,
           after_step=lambda: average.update_parameters(module))
    state = run.model()
    for key, value in average.module.state_dict().items():
        torch.testing.assert_close(state[key], value, rtol=1e-6, atol=1e-8)


LOSSES = {
    "mse": (functional.mse_loss, ""),
    "mae": (functional.l1_loss, ""),
    "huber": (lambda o, t: functional.huber_loss(o, t, delta=0.5), "huber_delta = 0.5"),
    "binary_cross_entropy": (functional.binary_cross_entropy_with_logits, ""),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("micro", [16, 4])
def test_other_losses_follow_torchs(run, name, micro):
    loss_of, options = LOSSES[name]
    torch.manual_seed(2)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    random = numpy.random.default_rng(4)
    x = random.standard_normal((64, 12)).astype(numpy.float32)
    y = (random.random((64, 3)) > 0.5).astype(numpy.float32)
    run.data(x, y)
    run.start_from(module)
    metrics = run.train(
        config('kind = "mlp"\noptions = { hidden = [] }', 20, 16, micro, SGD,
               f'[objective]\nloss = "{name}"\n{options}')
    )
    peer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
    follow(run, module, peer, loss_of, x, y, metrics, micro_batches=16 // micro, rel=1e-6)


@pytest.mark.parametrize("micro", [16, 4])
def test_ignored_labels_and_class_weights_count_once_over_the_whole_step(run, micro):
    """The mean is over the step's labels, however they fall into micro-batches."""
    torch.manual_seed(2)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4))
    random = numpy.random.default_rng(5)
    x = random.standard_normal((64, 12)).astype(numpy.float32)
    y = random.integers(0, 4, 64)
    y[random.random(64) < 0.4] = -1
    y[[0, 1, 2, 3]] = -1  # a micro-batch without any label
    run.data(x, y)
    run.start_from(module)
    weights = [0.5, 1.0, 2.0, 4.0]
    metrics = run.train(
        config('kind = "mlp"\noptions = { classes = 4, hidden = [] }', 20, 16, micro, SGD,
               f"[objective]\nignore_index = -1\nlabel_smoothing = 0.1\nclass_weights = {weights}")
    )
    peer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
    loss_of = functools.partial(
        functional.cross_entropy, ignore_index=-1, label_smoothing=0.1, weight=torch.tensor(weights)
    )
    follow(run, module, peer, loss_of, x, y, metrics, micro_batches=16 // micro, rel=1e-6)


def test_clipping_follows_torchs(run):
    module = mlp()
    x, y = images(80, 8)
    run.data(x, y)
    run.start_from(module)
    text = config(MODELS["mlp"][2], 20, 16, 16, SGD).replace("[train]\n", "[train]\nclip_norm = 0.5\n")
    metrics = run.train(text)
    peer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
    follow(run, module, peer, functional.cross_entropy, x, y, metrics, rel=1e-5, clip=0.5)
