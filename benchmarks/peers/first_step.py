"""One step of the digits run by PyTorch's DistributedDataParallel: the same network, batch and data."""

import glob
import sys

import h5py
import torch
from torch import distributed, nn


def main(pattern: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    rank, world = distributed.get_rank(), distributed.get_world_size()
    images, labels = [], []
    for path in sorted(glob.glob(pattern)):
        with h5py.File(path) as file:
            images.append(torch.from_numpy(file["x"][:]) * 0.0625)
            labels.append(torch.from_numpy(file["y"][:]))
    data = torch.utils.data.TensorDataset(torch.cat(images), torch.cat(labels))
    sampler = torch.utils.data.DistributedSampler(data, world, rank)
    loader = torch.utils.data.DataLoader(data, batch_size=64 // world, sampler=sampler)
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(256, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10),
    )
    model = nn.parallel.DistributedDataParallel(network)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    image, label = next(iter(loader))
    loss = nn.functional.cross_entropy(model(image), label)
    loss.backward()
    optimizer.step()
    print(f"rank {rank}: loss {loss.item():.4f}", flush=True)
    # The step is done; the way out of Python is not part of it.
    distributed.barrier()


if __name__ == "__main__":
    main(sys.argv[1])
