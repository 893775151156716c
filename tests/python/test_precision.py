"""Lower precision against torch.autocast: the same casts, the same bits."""

import numpy
import pytest
import torch
import torch.nn.functional as functional
from test_against_torch import MODELS, config, follow, images, mlp
from test_exported_programs import SGD, Case
from test_zoo import Gpt, language_loss

STEPS = 5


def autocast(module, dtype=torch.bfloat16):
    """The module under autocast, its output float32 again; a weight that is used twice is cast twice."""

    def forward(*inputs):
        with torch.autocast("cpu", dtype, cache_enabled=False):
            output = module(*inputs)
        return output.float()

    return forward


@pytest.mark.parametrize("name", ["unet", "gpt", "resnet50"])
def test_programs_in_bfloat16_follow_torch_autocast(run, tmp_path, name):
    case = Case(name, tmp_path)
    case.prepare(run, SGD, steps=STEPS)
    run.set("[train]", "precision = \"bfloat16\"")
    metrics = run.train()
    eager = case.eager(lambda weights: torch.optim.SGD(weights, lr=0.01, momentum=0.9), run.order(STEPS), autocast)
    for step, (module, loss) in enumerate(eager):
        assert numpy.float32(metrics[step]["loss"]) == numpy.float32(loss), f"step {step + 1}"
    run.assert_same_state(module)
    # It did compute something else than float32.
    exact = [loss for _, loss in case.eager(lambda weights: torch.optim.SGD(weights, lr=0.01), run.order(1))]
    assert numpy.float32(metrics[0]["loss"]) != numpy.float32(exact[0])


def test_built_in_models_in_bfloat16_follow_torch_autocast(run):
    torch.manual_seed(5)
    module = Gpt(50, 9, 16, 2, 2)
    random = numpy.random.default_rng(7)
    x, y = random.integers(0, 50, (8, 9)), random.integers(0, 50, (8, 9))
    run.data(x, y)
    run.start_from(module)
    run.config(
        '[model]\nkind = "gpt"\noptions = { width = 16, layers = 2, heads = 2, classes = 50 }\n'
        'weights = "start.safetensors"\n[train]\nprecision = "bfloat16"\nsteps = 2\nglobal_batch = 4\n'
        f"micro_batch = 4\n[optimizer]\n{SGD}\nno_decay = []\n",
        'inputs.x.path = "x"\ninputs.x.dtype = "int64"\ntargets.y.path = "y"\n')
    metrics = run.train()
    peer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
    follow(run, autocast(module), peer, language_loss, x, y, metrics, exact=True)


def test_ranks_and_workers_change_no_bit_in_bfloat16(run, tmp_path):
    """The tied weight of the network is cast twice in each forward pass."""
    Case("gpt", tmp_path).prepare(run, SGD, steps=3, micro_batches=4)
    run.set("[train]", "precision = \"bfloat16\"")
    models = []
    for ranks, workers in ((1, 1), (1, 2), (3, 1)):
        run.hadal("train", "--set", f"run.dir=run-{ranks}-{workers}", "--set", f"run.workers={workers}", ranks=ranks)
        models.append((run.folder / f"run-{ranks}-{workers}" / "model" / "model.safetensors").read_bytes())
    assert len(set(models)) == 1


@pytest.mark.parametrize("name", ["unet", "gpt"])
def test_programs_in_float16_follow_torch_autocast(run, tmp_path, name):
    case = Case(name, tmp_path)
    case.prepare(run, SGD, steps=1)
    run.set("[train]", "precision = \"float16\"")
    loss = run.train()[0]["loss"]
    _, expected = next(iter(case.eager(lambda weights: torch.optim.SGD(weights, lr=0.01), run.order(1),
                                       lambda module: autocast(module, torch.float16))))
    assert numpy.float32(loss) == numpy.float32(expected)


def test_float16_is_scaled_as_grad_scaler_does_it(run):
    """The inputs are so large that the first gradients do not fit, and the steps are skipped."""
    module = mlp()
    x, y = images(96, 8)
    x *= 200
    run.data(x, y)
    run.start_from(module)
    text = config(MODELS["mlp"][2], 24, 16, 16, 'kind = "sgd"\nlr = 1e-5\nmomentum = 0.9\n')
    metrics = run.train(text.replace("[train]\n", '[train]\nprecision = "float16"\nclip_norm = 50.0\n'))
    peer = torch.optim.SGD(module.parameters(), lr=1e-5, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu")
    order = run.order(len(metrics))
    for step, ours in enumerate(metrics):
        ids = order[step, 0]
        peer.zero_grad()
        loss = functional.cross_entropy(autocast(module, torch.float16)(torch.from_numpy(x[ids])), torch.from_numpy(y[ids]))
        assert ours["loss_scale"] == scaler.get_scale(), f"step {step + 1}"
        scaler.scale(loss).backward()
        scaler.unscale_(peer)
        torch.nn.utils.clip_grad_norm_(module.parameters(), 50)
        scaler.step(peer)
        scaler.update()
        assert ours["skipped"] == (scaler.get_scale() < ours["loss_scale"]), f"step {step + 1}"
        assert ours["loss"] == pytest.approx(loss.item(), rel=1e-4), f"step {step + 1}"
    assert 2 <= sum(ours["skipped"] for ours in metrics) < 20


def test_what_no_scale_can_help_stops_the_run(run):
    x, y = images(96, 8)
    run.data(numpy.float32(1e30) * x, y)
    run.start_from(mlp())
    run.config(config(MODELS["mlp"][2], 24, 16, 16, SGD).replace("[train]\n", '[train]\nprecision = "float16"\n'))
    assert "the loss of step 1 is" in run.hadal("train", code=72).stderr
