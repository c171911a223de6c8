"""Plain PyTorch: carbontrack run -- torchrun --nproc-per-node 2 torchrun_plain.py

Without the wrapper `carbontrack.track` around the loop records it. Every rank may log: of each step
the lowest rank's line counts, so what is logged is of all ranks.
"""

import os

import torch
import torch.distributed as dist

import carbontrack

dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
device = torch.device("cpu")
if torch.cuda.is_available():
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
torch.manual_seed(dist.get_rank())
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(16, 16).to(device))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
carbontrack.describe_model(name="tiny-linear", parameters=16 * 17)

BATCH = 8
with carbontrack.track("tiny-torchrun", project="examples"), carbontrack.phase("train"):
    for step in range(1, 6):
        with carbontrack.phase("data"):
            batch = torch.randn(BATCH, 16, device=device)
        loss = (model(batch) - batch).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        total = loss.detach()
        dist.all_reduce(total)
        ranks = dist.get_world_size()
        carbontrack.log_step(step, loss=float(total) / ranks, lr=1e-3, tokens=BATCH * ranks)
dist.destroy_process_group()
