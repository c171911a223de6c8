"""A CPU-bound training that writes how long each of its steps took: `step_job SECONDS`."""

import json
import sys
import time
from pathlib import Path

import torch

from llama_train.config import Train, preset
from llama_train.model import Transformer, initial_weight
from llama_train.optim import adamw

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
times_s = []
until_s = time.perf_counter() + float(sys.argv[1])
while time.perf_counter() < until_s:
    began_s = time.perf_counter()
    (model(tokens[:, :-1], tokens[:, 1:]) / tokens[:, 1:].numel()).backward()
    optimizer.step()
    optimizer.zero_grad()
    times_s.append(time.perf_counter() - began_s)
Path("steps.json").write_text(json.dumps(times_s[10:]))
