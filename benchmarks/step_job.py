"""A CPU-bound training that writes when each of its steps began and ended.

    step_job.py SECONDS

Its pid is in `pid` once it is warm; `steps.json` has the times, by the monotonic clock.
"""

import json
import os
import sys
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
until_s = time.monotonic() + float(sys.argv[1])
times_s = []
while time.monotonic() < until_s:
    times_s.append(step())
Path("steps.json").write_text(json.dumps(times_s))
