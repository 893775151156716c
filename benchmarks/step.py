"""One optimizer step: the exported program, the same network built in, and PyTorch eager, in turn.

    .deps/venv/bin/python benchmarks/step.py [ROUNDS [NETWORK …]]

Each round runs one step (forward, backward, SGD with momentum) of every contestant on one thread; all
flush denormals to zero. Prints medians over the rounds, their spread, and the ratios within rounds; the
losses must agree bit for bit. Needs build/dev and what tests/run.sh brings."""

import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import h5py
import numpy
import safetensors.torch
import torch
import torchvision
from torch.nn import functional

ROOT = pathlib.Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "engine" / "export")]
import hadal_export  # noqa: E402

torch.set_num_threads(1)
torch.set_flush_denormal(True)
WARM, STEPS, SAMPLES = 3, 1, 64


def transformer():
    layer = torch.nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True)
    return torch.nn.Sequential(
        torch.nn.Linear(32, 128), torch.nn.TransformerEncoder(layer, 4, enable_nested_tensor=False),
        torch.nn.Flatten(), torch.nn.Linear(48 * 128, 10))


def vision(name, **options):
    return lambda: getattr(torchvision.models, name)(num_classes=10, **options)


# name: module, shape of a sample, micro-batch, built in or None
NETWORKS = {
    "resnet18": (vision("resnet18"), (3, 64, 64), 16, 'kind = "resnet18"\noptions = { classes = 10 }'),
    "vit": (vision("VisionTransformer", image_size=32, patch_size=4, num_layers=4, num_heads=4, hidden_dim=128,
                   mlp_dim=512), (3, 32, 32), 16,
            'kind = "vit"\noptions = { classes = 10, patch = 4, width = 128, layers = 4, heads = 4, hidden = 512 }'),
    "mobilenet_v3_small": (vision("mobilenet_v3_small", dropout=0.0), (3, 64, 64), 16, None),
    "transformer": (transformer, (48, 32), 16, None),
}


class Eager:
    def __init__(self, module, x, y, batch):
        self.module, self.x, self.y, self.batch, self.at = module.train(), x, y, batch, 0
        self.optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)

    def run(self, steps):
        start = time.perf_counter()
        for _ in range(steps):
            rows = slice(self.at, self.at + self.batch)
            self.at = (self.at + self.batch) % SAMPLES
            self.optimizer.zero_grad()
            loss = functional.cross_entropy(self.module(self.x[rows]), self.y[rows])
            loss.backward()
            self.optimizer.step()
            value = loss.item()
        return time.perf_counter() - start, value


class Hadal:
    def __init__(self, process, number):
        self.process, self.number = process, number

    def run(self, steps):
        self.process.stdin.write(f"{self.number} {steps}\n")
        self.process.stdin.flush()
        seconds, loss = self.process.stdout.readline().split()
        return float(seconds), float(loss)


def prepare(folder, name):
    make, shape, batch, built_in = NETWORKS[name]
    torch.manual_seed(1)
    module = make()
    for value in module.parameters():  # a head that starts at zero would train nothing else
        if value.abs().max() == 0 and value.dim() > 1:
            torch.nn.init.normal_(value, std=0.02)
    random = numpy.random.default_rng(2)
    x = random.standard_normal((SAMPLES, *shape)).astype("f4")
    y = random.integers(0, 10, SAMPLES)
    with h5py.File(folder / "train.h5", "w") as file:
        file["x"], file["y"] = x, y
    state = {key: value.clone().contiguous() for key, value in module.state_dict().items()}
    safetensors.torch.save_file(state, folder / "start.safetensors")
    hadal_export.export(module, (torch.from_numpy(x[:batch]),), folder / "net.pt2")
    models = {"program": 'program = "net.pt2"'}
    if built_in:
        models["built in"] = f'{built_in}\nweights = "start.safetensors"'
    for number, model in enumerate(models.values()):
        (folder / f"{number}.toml").write_text(
            '[data]\ntrain = "train.h5"\nshuffle = "none"\ninputs.x.path = "x"\ntargets.y.path = "y"\n'
            f"[model]\n{model}\n[train]\nsteps = 1000000\nglobal_batch = {batch}\nmicro_batch = {batch}\n"
            '[optimizer]\nkind = "sgd"\nlr = 0.01\nmomentum = 0.9\nno_decay = []\n')
    process = subprocess.Popen(
        [ROOT / "build" / "dev" / "benchmarks" / "benchmark_step", *(folder / f"{n}.toml" for n in range(len(models)))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    contestants = {kind: Hadal(process, number) for number, kind in enumerate(models)}
    contestants["eager"] = Eager(module, torch.from_numpy(x), torch.from_numpy(y), batch)
    return process, contestants


def measure(name, rounds):
    with tempfile.TemporaryDirectory() as folder:
        process, contestants = prepare(pathlib.Path(folder), name)
        times = {kind: [] for kind in contestants}
        for round_number in range(-WARM, rounds):
            losses = set()
            # Another one begins each round, so that none always follows the same.
            kinds = list(contestants)
            turn = round_number % len(kinds)
            for kind in kinds[turn:] + kinds[:turn]:
                seconds, loss = contestants[kind].run(STEPS)
                losses.add(numpy.float32(loss))
                if round_number >= 0:
                    times[kind].append(1e3 * seconds / STEPS)
            assert len(losses) == 1, f"{name}: round {round_number} has the losses {losses}"
        process.stdin.close()
        process.wait()
    for kind, values in times.items():
        print(f"{name:<20} {kind:<9} {statistics.median(values):8.2f} ms a step  "
              f"(min {min(values):.2f}, max {max(values):.2f})")
    # Ratios within each round: what slows the machine for a while slows both.
    for kind in times:
        if kind == "program":
            continue
        ratios = sorted(a / b for a, b in zip(times["program"], times[kind]))
        low, middle, high = (ratios[len(ratios) * k // 4] for k in (1, 2, 3))
        print(f"{name:<20} the program takes {middle:.3f} of the time of {kind} "
              f"(middle half {low:.3f} to {high:.3f}; of the fastest steps {min(times['program']) / min(times[kind]):.3f})")


if __name__ == "__main__":
    for network in sys.argv[2:] or NETWORKS:
        measure(network, int(sys.argv[1]) if len(sys.argv) > 1 else 60)
