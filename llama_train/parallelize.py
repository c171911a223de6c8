"""How one model runs on many ranks: all that is done to it, in one visible order."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor import parallel as tp
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from llama_train.config import Config
from llama_train.model import Transformer


def parallelize(model: Transformer, config: Config, mesh: DeviceMesh) -> None:
    """Tensor parallel, then recomputation, then the compiler, then sharding.

    `mesh` is replicate × shard × tensor. A single float32 rank needs none of it and gets none.
    """
    train = config.train
    if config.parallel.tensor > 1:
        _tensor_parallel(model, mesh["tensor"])
    for block in model.layers:
        if train.activation_checkpointing != "none":
            _recompute(block, selective=train.activation_checkpointing == "selective")
    if compiles(config, mesh.device_type):
        for block in model.layers:
            block.compile(fullgraph=True)
        model.chunk_loss = torch.compile(model.chunk_loss, fullgraph=True)  # type: ignore
    bfloat16 = computes_in_bfloat16(train.dtype, mesh.device_type)
    if mesh.size() > 1 or bfloat16:
        dimensions = ("replicate", "shard") if config.parallel.replicate > 1 else "shard"
        _shard(model, mesh[dimensions], bfloat16=bfloat16)


def computes_in_bfloat16(dtype: str, device_type: str) -> bool:
    """As asked; auto: where the device multiplies bfloat16 matrices in hardware."""
    if dtype != "auto":
        return dtype == "bfloat16"
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known = torch.cpu.get_capabilities()
    return any(known.get(name) for name in ("avx512_bf16", "amx_bf16"))


def compiles(config: Config, device_type: str) -> bool:
    return {"on": True, "off": False, "auto": device_type == "cuda"}[config.train.compile]


def _tensor_parallel(model: Transformer, mesh: DeviceMesh) -> None:
    """Heads and feed-forward columns are split, and the sequence between them.

    Korthikanti et al. 2022, "Reducing activation recomputation in large transformer models".
    """
    split, whole = Shard(1), Replicate()
    block_plan: dict[str, tp.ParallelStyle] = {
        "attention_norm": tp.SequenceParallel(),
        "attention": tp.PrepareModuleInput(
            input_layouts=(split, None, None), desired_input_layouts=(whole, None, None)
        ),
        **{f"attention.{name}": tp.ColwiseParallel() for name in ("wq", "wk", "wv")},
        "attention.wo": tp.RowwiseParallel(output_layouts=split),
        "ffn_norm": tp.SequenceParallel(),
        "feed_forward": tp.PrepareModuleInput(input_layouts=split, desired_input_layouts=whole),
        **{f"feed_forward.{name}": tp.ColwiseParallel() for name in ("w1", "w3")},
        "feed_forward.w2": tp.RowwiseParallel(output_layouts=split),
    }
    for block in model.layers:
        tp.parallelize_module(block, mesh, block_plan)
    ends: dict[str, tp.ParallelStyle] = {
        "tok_embeddings": tp.RowwiseParallel(input_layouts=whole, output_layouts=split),
        "norm": tp.SequenceParallel(),
        "output": tp.ColwiseParallel(output_layouts=whole),
    }
    tp.parallelize_module(model, mesh, ends)
    gather = tp.PrepareModuleOutput(output_layouts=split, desired_output_layouts=whole)
    tp.parallelize_module(model.norm, mesh, gather)


def _recompute(block: nn.Module, *, selective: bool) -> None:
    """Forget the block's activations and compute them again in backward: all, or about half."""
    options: dict[str, Any] = {"context_fn": _keep_half} if selective else {}
    block.forward = partial(checkpoint, block.forward, use_reentrant=False, **options)


_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
}


def _keep_half() -> Any:
    """Attention and every second matrix product are kept; the rest is computed again."""
    products = {False: 0, True: 0}

    def policy(context: Any, operator: Any, *_args: Any, **_kwargs: Any) -> CheckpointPolicy:
        keep = operator in _ATTENTION
        if operator == torch.ops.aten.mm.default:
            products[context.is_recompute] += 1
            keep = products[context.is_recompute] % 2 == 1
        return CheckpointPolicy.MUST_SAVE if keep else CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)  # type: ignore[no-untyped-call]


def _shard(model: Transformer, mesh: DeviceMesh, *, bfloat16: bool) -> None:
    """FSDP2: float32 master weights and reductions, compute in bfloat16 if asked."""
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bfloat16 else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    # Embedding and output are in the root's group: the chunks of the loss find it gathered.
    for part in (*model.layers, model):
        sharded = fully_shard(part, mesh=mesh, mp_policy=policy)
        # Losses are divided by the step's tokens over all ranks: gradients only add.
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)
