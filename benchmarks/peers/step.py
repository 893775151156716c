"""Whole steps by PyTorch's DistributedDataParallel on gloo, as its users write them; for benchmarks/ddp.py.

Reads lines "MODEL MICRO_BATCH OPTIMIZER PRECISION FLUSH STEPS" from standard input of rank 0 and answers each
with a JSON list of the slowest rank's seconds a step."""

import json
import sys
import time

import torch
import torchvision
from torch import distributed, nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (part.view(b, t, self.heads, c // self.heads).transpose(1, 2)
                   for part in self.c_attn(self.ln_1(x)).split(c, dim=2))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).contiguous().view(b, t, c))
        return x + self.mlp(self.ln_2(x))


class Gpt(nn.Module):
    def __init__(self, vocabulary=512, length=128, width=256, layers=4, heads=4):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.h = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.ln_f, self.lm_head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, x):
        h = self.wte(x) + self.wpe(torch.arange(x.shape[1]))
        return self.lm_head(self.ln_f(self.h(h)))


def mlp():
    widths = [784, 2048, 2048, 2048, 10]
    layers = []
    for a, b in zip(widths, widths[1:]):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


# name: module, shape of a sample (None: tokens), classes
MODELS = {
    "mlp": (mlp, (784,), 10),
    "gpt": (Gpt, None, 512),
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=10), (3, 64, 64), 10),
}


def steps(model, batch, optimizer, precision, count):
    make, shape, classes = MODELS[model]
    network = nn.parallel.DistributedDataParallel(make(), gradient_as_bucket_view=True)
    if optimizer == "adamw":
        update = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01, fused=True)
    else:
        update = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=0.01, fused=True)
    if shape is None:
        x, y = torch.randint(classes, (batch, 128)), torch.randint(classes, (batch, 128))
    else:
        x, y = torch.randn(batch, *shape), torch.randint(classes, (batch,))
    seconds = []
    for number in range(count + 5):
        start = time.perf_counter()
        update.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            output = network(x)
        loss = functional.cross_entropy(output.float().flatten(0, -2), y.flatten())
        loss.backward()
        update.step()
        if number >= 5:
            seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    while True:
        request = [sys.stdin.readline() if rank == 0 else None]
        distributed.broadcast_object_list(request)
        if not request[0]:
            return
        model, batch, optimizer, precision, flush, count = request[0].split()
        torch.set_flush_denormal(flush == "flush")
        seconds = torch.tensor(steps(model, int(batch), optimizer, precision, int(count)), dtype=torch.float64)
        distributed.all_reduce(seconds, op=distributed.ReduceOp.MAX)
        if rank == 0:
            print(json.dumps(seconds.tolist()), flush=True)


if __name__ == "__main__":
    main()
