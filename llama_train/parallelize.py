"""How one model runs on many ranks: all that is done to it, in one visible order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor import parallel as tp
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from llama_train.config import Config, Parallel
from llama_train.errors import TrainError
from llama_train.model import Transformer, initial_weight, rope_table


@dataclass(frozen=True, slots=True)
class World:
    """This rank among the others."""

    rank: int
    size: int
    device: torch.device
    mesh: DeviceMesh

    @property
    def data_ranks(self) -> int:
        """Ranks that see different sequences; tensor-parallel ranks share theirs."""
        return self.size // self.mesh["tensor"].size()

    @property
    def data_rank(self) -> int:
        return self.rank // self.mesh["tensor"].size()


@contextmanager
def world(parallel: Parallel) -> Iterator[World]:
    """Join the ranks that torchrun started, or be the only one. Gloo on CPU, NCCL on GPU."""
    cuda = torch.cuda.is_available()
    device = (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
    )
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    if cuda:
        torch.cuda.set_device(device)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        dist.init_process_group(backend)
    else:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        size = dist.get_world_size()
        rest = parallel.replicate * parallel.tensor
        shape = (parallel.replicate, parallel.shard or max(1, size // rest), parallel.tensor)
        if min(shape) < 1 or shape[0] * shape[1] * shape[2] != size:
            raise TrainError(
                f"parallel.replicate {shape[0]} × shard {shape[1]} × tensor {shape[2]} is not "
                f"the world size {size}."
            )
        mesh = init_device_mesh(device.type, shape, mesh_dim_names=("replicate", "shard", "tensor"))
        yield World(dist.get_rank(), size, device, mesh)
    finally:
        dist.destroy_process_group()


def build(config: Config, here: World) -> Transformer:
    """The model, spread over the ranks, with its first weights."""
    with torch.device("meta"):
        model = Transformer(config.model)
    parallelize(model, config, here)
    model.to_empty(device=here.device)
    model.rope.copy_(rope_table(config.model, config.model.context))
    for name, parameter in model.named_parameters():
        weight = initial_weight(name, parameter.shape, config.model, config.train.seed, here.device)
        load_weights(model, {name: weight}, strict=False)
    return model


def load_weights(model: nn.Module, weights: dict[str, Tensor], *, strict: bool = True) -> None:
    """Give each rank its part of whole tensors that every rank holds."""
    set_model_state_dict(
        model, weights, options=StateDictOptions(full_state_dict=True, strict=strict)
    )


def parallelize(model: Transformer, config: Config, here: World) -> None:
    """Tensor parallel, then recomputation, then the compiler, then sharding."""
    train, cuda = config.train, here.device.type == "cuda"
    if config.parallel.tensor > 1:
        _tensor_parallel(model, here.mesh["tensor"])
    for block in model.layers:
        if train.activation_checkpointing != "none":
            _recompute(block, selective=train.activation_checkpointing == "selective")
        if compiles(config, here):
            block.compile(fullgraph=True)
    bfloat16 = train.dtype == "bfloat16" or (train.dtype == "auto" and cuda)
    if here.size > 1 or bfloat16:
        hybrid = config.parallel.replicate > 1
        _shard(model, here.mesh[("replicate", "shard") if hybrid else "shard"], bfloat16)


def compiles(config: Config, here: World) -> bool:
    choice = config.train.compile
    return choice == "on" or (choice == "auto" and here.device.type == "cuda")


def _tensor_parallel(model: Transformer, mesh: DeviceMesh) -> None:
    """Heads and feed-forward columns are split; between them the sequence is (Korthikanti et al. 2022)."""
    gather = {"input_layouts": (Shard(1),), "desired_input_layouts": (Replicate(),)}
    block_plan: dict[str, tp.ParallelStyle] = {
        "attention_norm": tp.SequenceParallel(),
        "attention": tp.PrepareModuleInput(
            input_layouts=(Shard(1), None, None), desired_input_layouts=(Replicate(), None, None)
        ),
        **{f"attention.{name}": tp.ColwiseParallel() for name in ("wq", "wk", "wv")},
        "attention.wo": tp.RowwiseParallel(output_layouts=Shard(1)),
        "ffn_norm": tp.SequenceParallel(),
        "feed_forward": tp.PrepareModuleInput(**gather),
        **{f"feed_forward.{name}": tp.ColwiseParallel() for name in ("w1", "w3")},
        "feed_forward.w2": tp.RowwiseParallel(output_layouts=Shard(1)),
    }
    for block in model.layers:
        tp.parallelize_module(block, mesh, block_plan)
    tp.parallelize_module(
        model,
        mesh,
        {
            "tok_embeddings": tp.RowwiseParallel(
                input_layouts=Replicate(), output_layouts=Shard(1)
            ),
            "norm": tp.SequenceParallel(),
            "output": tp.ColwiseParallel(output_layouts=Replicate()),
        },
    )
    whole = tp.PrepareModuleOutput(output_layouts=Shard(1), desired_output_layouts=Replicate())
    tp.parallelize_module(model.norm, mesh, whole)


def _recompute(block: nn.Module, *, selective: bool) -> None:
    """Forget the block's activations and compute them again in backward: all, or the cheap ones."""
    options: dict[str, Any] = {"use_reentrant": False}
    if selective:
        options["context_fn"] = partial(create_selective_checkpoint_contexts, _keep_costly)
    block.forward = partial(checkpoint, block.forward, **options)


_COSTLY = {
    torch.ops.aten.mm.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
}


def _keep_costly(_context: Any, operator: Any, *_args: Any, **_kwargs: Any) -> CheckpointPolicy:
    keep = operator in _COSTLY
    return CheckpointPolicy.MUST_SAVE if keep else CheckpointPolicy.PREFER_RECOMPUTE


def _shard(model: Transformer, mesh: DeviceMesh, bfloat16: bool) -> None:
    """FSDP2: float32 master weights and reductions, compute in bfloat16 if asked."""
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bfloat16 else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    # Embedding and output are in the root's group, so that the chunks of the loss find it gathered.
    for part in (*model.layers, model):
        sharded = fully_shard(part, mesh=mesh, mp_policy=policy)
        # Losses are divided by the step's tokens over all ranks: gradients only add.
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)
