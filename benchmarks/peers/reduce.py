"""All-reduce, and all-reduce plus fused AdamW, of one flat gradient by PyTorch's gloo; for benchmarks/reduce.py.

Reads lines "ELEMENTS OPTIMIZER ROUNDS" from standard input of rank 0 and answers each with a JSON list of
the slowest rank's seconds."""

import json
import sys
import time

import torch
from torch import distributed


def main() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    distributed.init_process_group("gloo")
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    while True:
        request = [sys.stdin.readline() if rank == 0 else None]
        distributed.broadcast_object_list(request)
        if not request[0]:
            return
        elements, optimizer, rounds = request[0].split()
        parameter = torch.nn.Parameter(torch.zeros(int(elements)))
        parameter.grad = torch.zeros(int(elements))
        update = torch.optim.AdamW([parameter], lr=1e-3, weight_decay=0.01, fused=True)
        source = torch.arange(int(elements)) % 251 + rank
        seconds = []
        for number in range(int(rounds) + 2):
            parameter.grad.copy_(source)
            distributed.barrier()
            start = time.perf_counter()
            distributed.all_reduce(parameter.grad)
            if optimizer == "adamw":
                # DistributedDataParallel divides after the sum.
                parameter.grad.div_(ranks)
                update.step()
            taken = torch.tensor([time.perf_counter() - start], dtype=torch.float64)
            distributed.all_reduce(taken, op=distributed.ReduceOp.MAX)
            if number >= 2:
                seconds.append(taken.item())
        if rank == 0:
            print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()
