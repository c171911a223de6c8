"""A loop of one's own with Accelerate: accelerate launch accelerate_loop.py OUT"""

import sys

import torch
from accelerate import Accelerator

import carbontrack
from carbontrack.integrations.accelerate import CarbonTrackTracker

BATCH, LENGTH = 2, 16

accelerator = Accelerator(
    cpu=not torch.cuda.is_available(),
    log_with=CarbonTrackTracker(name="tiny-accelerate", project="examples"),
)
accelerator.init_trackers("examples")
carbontrack.describe_model(name="tiny-embedding", parameters=64 * 16 + 17 * 64)
model = torch.nn.Sequential(torch.nn.Embedding(64, 16), torch.nn.Linear(16, 64))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
ids = torch.randint(0, 64, (32, LENGTH + 1), generator=torch.Generator().manual_seed(0))
loader = torch.utils.data.DataLoader(ids, batch_size=BATCH)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

for step, batch in enumerate(loader, start=1):
    logits = model(batch[:, :-1])
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
    accelerator.backward(loss)
    grad_norm = accelerator.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    mean = accelerator.gather(loss.detach()).mean()  # of all ranks, as the tokens are
    tokens = batch[:, 1:].numel() * accelerator.num_processes
    values = {"loss": float(mean), "lr": 1e-3, "grad_norm": float(grad_norm), "tokens": tokens}
    accelerator.log(values, step=step)
    if step == 4:
        break

with carbontrack.phase("eval"), torch.no_grad():
    accelerator.log({"eval_loss": float(mean)}, step=step)
with carbontrack.phase("checkpoint"):
    accelerator.save_model(model, sys.argv[1])
accelerator.end_training()
