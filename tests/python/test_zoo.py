"""The built-in models against their references: the same weights, the same samples, the same bits."""

import h5py
import numpy
import pytest
import torch
import torchvision
from test_against_torch import follow
from test_exported_programs import hadal_export, language_loss
from torch import nn
from torch.nn import functional

STEPS, BATCH = 4, 4


class DoubleConv(nn.Module):
    def __init__(self, dims, inside, outside):
        super().__init__()
        conv, norm = ((nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d))[dims - 2]
        self.double_conv = nn.Sequential(
            conv(inside, outside, 3, padding=1, bias=False), norm(outside), nn.ReLU(inplace=True),
            conv(outside, outside, 3, padding=1, bias=False), norm(outside), nn.ReLU(inplace=True))

    def forward(self, x):
        return self.double_conv(x)


class Down(nn.Module):
    def __init__(self, dims, inside, outside):
        super().__init__()
        pool = (nn.MaxPool2d, nn.MaxPool3d)[dims - 2]
        self.maxpool_conv = nn.Sequential(pool(2), DoubleConv(dims, inside, outside))

    def forward(self, x):
        return self.maxpool_conv(x)


class Up(nn.Module):
    def __init__(self, dims, inside):
        super().__init__()
        self.up = (nn.ConvTranspose2d, nn.ConvTranspose3d)[dims - 2](inside, inside // 2, 2, stride=2)
        self.conv = DoubleConv(dims, inside, inside // 2)

    def forward(self, x, skipped):
        x = self.up(x)
        padding = []
        for have, want in zip(reversed(x.shape[2:]), reversed(skipped.shape[2:])):
            padding += [(want - have) // 2, want - have - (want - have) // 2]
        return self.conv(torch.cat([skipped, functional.pad(x, padding)], dim=1))


class Out(nn.Module):
    def __init__(self, dims, inside, classes):
        super().__init__()
        self.conv = (nn.Conv2d, nn.Conv3d)[dims - 2](inside, classes, 1)

    def forward(self, x):
        return self.conv(x)


class Unet(nn.Module):
    def __init__(self, dims, channels, width, classes):
        super().__init__()
        self.inc = DoubleConv(dims, channels, width)
        self.down1, self.down2 = Down(dims, width, 2 * width), Down(dims, 2 * width, 4 * width)
        self.up1, self.up2 = Up(dims, 4 * width), Up(dims, 2 * width)
        self.outc = Out(dims, width, classes)

    def forward(self, x):
        a = self.inc(x)
        b = self.down1(a)
        return self.outc(self.up2(self.up1(self.down2(b), b), a))


class Layer(nn.Module):
    def __init__(self, inside, outside):
        super().__init__()
        self.conv = nn.Conv3d(inside, outside, 3, padding="same")

    def forward(self, x):
        return functional.max_pool3d(functional.leaky_relu(self.conv(x), 0.3), 2)


class Cosmoflow(nn.Module):
    def __init__(self, channels, width, layers, size, outputs):
        super().__init__()
        widths = [channels] + [width << i for i in range(layers)]
        self.conv_seq = nn.ModuleList(Layer(a, b) for a, b in zip(widths, widths[1:]))
        self.dense1 = nn.Linear(widths[-1] * (size >> layers) ** 3, 128)
        self.dense2, self.output = nn.Linear(128, 64), nn.Linear(64, outputs)

    def forward(self, x):
        for layer in self.conv_seq:
            x = layer(x)
        x = functional.leaky_relu(self.dense1(x.flatten(1)), 0.3)
        x = functional.leaky_relu(self.dense2(x), 0.3)
        return torch.tanh(self.output(x)) * 1.2


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.width = heads, width
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (part.view(b, t, self.heads, c // self.heads).transpose(1, 2)
                   for part in self.c_attn(x).split(self.width, dim=2))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).contiguous().view(b, t, c))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1, self.attn, self.ln_2 = nn.LayerNorm(width), Attention(width, heads), nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp["c_proj"](functional.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, vocabulary, length, width, layers, heads):
        super().__init__()
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(vocabulary, width), "wpe": nn.Embedding(length, width),
            "h": nn.ModuleList(Block(width, heads) for _ in range(layers)), "ln_f": nn.LayerNorm(width)})
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight

    def forward(self, x):
        parts = self.transformer
        h = parts["wte"](x) + parts["wpe"](torch.arange(x.shape[1]))
        for block in parts["h"]:
            h = block(h)
        return self.lm_head(parts["ln_f"](h))


def vit():
    module = torchvision.models.VisionTransformer(
        image_size=16, patch_size=4, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=7)
    nn.init.normal_(module.heads.head.weight, std=0.1)  # it starts at zero, which would hide the rest
    return module


def pixels(*shape):
    return lambda random, count: random.standard_normal((count, *shape)).astype("f4")


def labels(classes, *shape):
    return lambda random, count: random.integers(0, classes, (count, *shape))


CROSS_ENTROPY = (functional.cross_entropy, "cross_entropy")
# kind: module, options, inputs, targets, (loss, its name)
ZOO = {
    "vit": (vit, "patch = 4, width = 16, layers = 2, heads = 2, hidden = 32, classes = 7",
            pixels(3, 16, 16), labels(7), CROSS_ENTROPY),
    # 18 and 14 are no multiples of 4: the maps that come back up are padded.
    "unet": (lambda: Unet(2, 3, 4, 5), "width = 4, depth = 2, classes = 5", pixels(3, 18, 14), labels(5, 18, 14),
             CROSS_ENTROPY),
    "unet3d": (lambda: Unet(3, 1, 4, 3), "width = 4, depth = 2, classes = 3", pixels(1, 8, 8, 10),
               labels(3, 8, 8, 10), CROSS_ENTROPY),
    "cosmoflow": (lambda: Cosmoflow(4, 4, 3, 8, 4), "width = 4, layers = 3, dropout = 0.0, classes = 4", pixels(4, 8, 8, 8),
                  pixels(4), (functional.mse_loss, "mse")),
    "gpt": (lambda: Gpt(50, 9, 16, 2, 2), "width = 16, layers = 2, heads = 2, classes = 50", labels(50, 9),
            labels(50, 9), (language_loss, "cross_entropy")),
}


@pytest.mark.parametrize("kind", ZOO)
def test_built_in_models_equal_their_references(run, kind):
    make, options, inputs, targets, (loss_of, loss) = ZOO[kind]
    torch.manual_seed(5)
    module = make()
    random = numpy.random.default_rng(7)
    x, y = inputs(random, STEPS * BATCH), targets(random, STEPS * BATCH)
    run.data(x, y)
    run.start_from(module)
    sample = torch.from_numpy(x[:BATCH])
    hadal_export.export(module, (sample,), run.folder / "net.pt2")
    types = ["float32" if a.dtype.kind == "f" else "int64" for a in (x, y)]
    fields = (f'inputs.x.path = "x"\ninputs.x.dtype = "{types[0]}"\n'
              f'targets.y.path = "y"\ntargets.y.dtype = "{types[1]}"\n')
    rest = (f'[objective]\nloss = "{loss}"\n[train]\nsteps = {STEPS}\nglobal_batch = {BATCH}\n'
            f'micro_batch = {BATCH}\n[optimizer]\nkind = "sgd"\nlr = 0.05\nmomentum = 0.9\nno_decay = []\n')

    # Applied: the exported program of the reference and the built-in model give the same outputs.
    built_in = f'[model]\nkind = "{kind}"\noptions = {{ {options} }}\nweights = "start.safetensors"\n'
    outputs = []
    for name, model in (("program", '[model]\nprogram = "net.pt2"\n'), ("kind", built_in)):
        run.config(model + rest, fields)
        run.hadal("predict", "--data", "train.h5", "--output", f"{name}.h5")
        with h5py.File(run.folder / f"{name}.h5") as file:
            outputs.append(file["output"][:])
    assert numpy.array_equal(*outputs)

    # Trained: every loss and every weight is PyTorch's.
    metrics = run.train()
    peer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    follow(run, module.train(), peer, loss_of, x, y, metrics, exact=True)
    run.assert_same_state(module)
