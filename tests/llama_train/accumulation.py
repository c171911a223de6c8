"""A rank that writes how many gradients it holds after the first of two micro-batches."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from llama_train.config import override
from llama_train.model import Transformer
from llama_train.presets import preset
from llama_train.train import Loop, next_token
from llama_train.world import build, world

SETTINGS = ["--model.dim=64", "--model.n_layers=2", "--model.context=32", "--train.micro_batch=1"]
SETTINGS.append("--train.dtype=float32")


def held(model: Transformer) -> dict[str, int]:
    """Numbers in the gradients of this rank: in its shards, and as whole matrices."""
    states = [m._get_fsdp_state() for m in model.modules() if hasattr(m, "_get_fsdp_state")]
    groups = [group for state in states for group in state._fsdp_param_groups]
    gathered = [getattr(p, "_unsharded_param", None) for g in groups for p in g.fsdp_params]
    sharded: list[Any] = [p.grad for p in model.parameters() if p.grad is not None]
    return {
        "sharded": sum(grad.to_local().numel() for grad in sharded),
        "whole": sum(p.grad.numel() for p in gathered if p is not None and p.grad is not None),
    }


configs = {
    choice: override(preset("demo"), [*SETTINGS, f"--parallel.sync_gradients={choice}"])
    for choice in ("each", "last")
}
found: dict[str, Any] = {"parameters": configs["each"].model.parameters}
tokens = torch.zeros((1, 32), dtype=torch.int64)
with world(configs["each"]) as here:
    for choice, config in configs.items():
        model, seen = build(config, here), list[dict[str, int]]()
        model.register_forward_pre_hook(
            lambda model, _, seen=seen: seen.append(held(model)),
            prepend=True,  # before the weights are gathered for the second forward
        )
        names = ("data", "optimizer", "store", "log", "progress", "measures")
        unused = dict.fromkeys(names, cast(Any, None))
        next_tokens = partial(next_token, chunks=1)
        loop = Loop(config=config, here=here, model=model, objective=next_tokens, **unused)
        loop.forward_backward([(tokens, tokens)] * 2, 64)
        found[choice] = seen[1]
    (Path(sys.argv[1]) / f"{here.rank}.json").write_text(json.dumps(found))
