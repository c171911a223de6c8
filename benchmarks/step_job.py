"""A CPU-bound training that writes when each of its steps began and ended.

    step_job.py

Its pid is in `pid` once it is warm; `steps` gets a line a step, by the monotonic clock. It trains
until there is a file `stop`.
"""

import os
import time
from pathlib import Path

import torch

from llama_train.config import Train
from llama_train.model import Transformer, initial_weight
from llama_train.optim import adamw
from llama_train.presets import preset

_WARM_UP = 10
shape = preset("demo").model
model = Transformer(shape)
cpu = torch.device("cpu")
model.load_state_dict(
    {
        name: initial_weight(name, parameter.shape, shape, 0, cpu)
        for name, parameter in model.named_parameters()
    }
)
optimizer = adamw(model, Train(steps=1, lr=1e-3))
tokens = torch.randint(shape.vocab_size, (2, 65), generator=torch.Generator().manual_seed(0))


def step() -> tuple[float, float]:
    began_s = time.monotonic()
    (model(tokens[:, :-1], tokens[:, 1:]) / tokens[:, 1:].numel()).backward()
    optimizer.step()
    optimizer.zero_grad()
    return began_s, time.monotonic()


for _ in range(_WARM_UP):
    step()
Path("pid").write_text(str(os.getpid()))
with Path("steps").open("w", buffering=1) as file:
    while not Path("stop").exists():
        began_s, ended_s = step()
        file.write(f"{began_s!r} {ended_s!r}\n")
