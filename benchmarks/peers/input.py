"""Training from one HDF5 file by DistributedDataParallel on gloo, h5py and a DataLoader, as their users write it;
for benchmarks/input.py.

Reads lines "FILE MODEL MICRO_BATCH WORKERS SHUFFLE STEPS" from standard input of rank 0 and answers each with a
JSON list of the slowest rank's seconds a step. FILE holds float32 images in x and labels in y."""

import json
import sys
import time

import h5py
import torch
import torchvision
from torch import distributed, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler


def convnet():
    return nn.Sequential(nn.Conv2d(3, 8, 5, stride=4), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


MODELS = {"convnet": convnet, "resnet18": lambda: torchvision.models.resnet18(num_classes=10)}


class Samples(Dataset):
    """Opens its file where it reads, as is safe with worker processes."""

    def __init__(self, path):
        self.path, self.file = path, None
        with h5py.File(path, "r") as file:
            self.rows = len(file["y"])

    def __len__(self):
        return self.rows

    def __getitem__(self, row):
        if self.file is None:
            self.file = h5py.File(self.path, "r")
        return torch.from_numpy(self.file["x"][row]), int(self.file["y"][row])


def steps(path, model, batch, workers, shuffle, count):
    network = nn.parallel.DistributedDataParallel(MODELS[model](), gradient_as_bucket_view=True)
    update = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, fused=True)
    data = Samples(path)
    sampler = DistributedSampler(data, shuffle=shuffle)
    loader = DataLoader(data, batch, sampler=sampler, num_workers=workers, drop_last=True,
                        persistent_workers=workers > 0)
    seconds = []
    warm_up = 5
    while len(seconds) < count + warm_up:
        start = time.perf_counter()
        for x, y in loader:
            update.zero_grad()
            functional.cross_entropy(network(x), y).backward()
            update.step()
            seconds.append(time.perf_counter() - start)
            if len(seconds) == count + warm_up:
                break
            start = time.perf_counter()
    return seconds[warm_up:]


def main() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    while True:
        request = [sys.stdin.readline() if rank == 0 else None]
        distributed.broadcast_object_list(request)
        if not request[0]:
            return
        path, model, batch, workers, shuffle, count = request[0].rstrip("\n").split("\t")
        seconds = torch.tensor(steps(path, model, int(batch), int(workers), shuffle == "shuffle", int(count)),
                               dtype=torch.float64)
        distributed.all_reduce(seconds, op=distributed.ReduceOp.MAX)
        if rank == 0:
            print(json.dumps(seconds.tolist()), flush=True)


if __name__ == "__main__":
    main()
