"""Steps of a ResNet-50 in PyTorch on one GPU, as its users write them: DistributedDataParallel over one rank, images
with their channels last, eager and compiled.

    peer.py BATCH PRECISION [STEPS]"""

import os
import sys
import time

import torch
from torch import distributed, nn
from torch.nn import functional


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


def resnet50():
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, count in enumerate((3, 4, 6, 3)):
        for block in range(count):
            layers.append(Bottleneck(inputs, 64 << stage, 2 if stage > 0 and block == 0 else 1))
            inputs = 4 * (64 << stage)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000))


def speed(batch, precision, count, compiled):
    network = resnet50().cuda().to(memory_format=torch.channels_last)
    network = nn.parallel.DistributedDataParallel(network, gradient_as_bucket_view=True)
    if compiled:
        network = torch.compile(network)
    update = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=0.01, fused=True)
    x = torch.randn(batch, 3, 224, 224, device="cuda").to(memory_format=torch.channels_last)
    y = torch.randint(1000, (batch,), device="cuda")
    seconds = []
    for number in range(count + 5):
        torch.cuda.synchronize()
        start = time.perf_counter()
        update.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = functional.cross_entropy(network(x), y)
        loss.backward()
        update.step()
        torch.cuda.synchronize()
        if number >= 5:
            seconds.append(time.perf_counter() - start)
    return batch / sorted(seconds)[len(seconds) // 2]


def main():
    batch, precision, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 30
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29511")
    distributed.init_process_group("nccl", rank=0, world_size=1)
    torch.backends.cudnn.benchmark = True
    for compiled in (False, True):
        try:
            print(f"torch  resnet50 {batch} {precision}{', compiled' if compiled else ''}: "
                  f"{speed(batch, precision, count, compiled):.1f} samples/s", flush=True)
        except Exception as failure:  # a machine without a compiler cannot compile
            print(f"torch  resnet50 {batch} {precision}, compiled: {type(failure).__name__}", flush=True)
    distributed.destroy_process_group()


main()
