"""The ranks that train together, and the model that is spread over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from llama_train.config import Config, layout
from llama_train.host import end_with_torchrun, is_launched, keep_freed_memory, local_rank
from llama_train.model import Transformer, initial_weight, rope_table
from llama_train.parallelize import parallelize


@dataclass(frozen=True, slots=True)
class World:
    """This rank among the others."""

    rank: int
    size: int
    device: torch.device
    mesh: DeviceMesh
    """replicate × shard × tensor."""

    @property
    def tensor_ranks(self) -> int:
        """Ranks that share a sequence, next to each other."""
        return self.mesh["tensor"].size()

    @property
    def data_ranks(self) -> int:
        """Groups of ranks that see different sequences."""
        return self.size // self.tensor_ranks

    @property
    def data_rank(self) -> int:
        return self.rank // self.tensor_ranks


@contextmanager
def world(config: Config) -> Iterator[World]:
    """Join the ranks that torchrun started, or be the only one. Gloo on CPU, NCCL on GPU.

    Any launcher will do that sets torch's variables, as torchrun does. Raises TrainError for one
    that does not, or if model or batch cannot be divided among the ranks.
    """
    cuda = torch.cuda.is_available()
    device = torch.device(f"cuda:{local_rank()}" if cuda else "cpu")
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    if cuda:
        torch.cuda.set_device(device)
    else:
        keep_freed_memory()
    if is_launched():
        end_with_torchrun()
        dist.init_process_group(backend)
    else:
        store = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
    try:
        size = dist.get_world_size()
        shape = layout(config, size)
        mesh = init_device_mesh(device.type, shape, mesh_dim_names=("replicate", "shard", "tensor"))
        yield World(dist.get_rank(), size, device, mesh)
    finally:
        dist.destroy_process_group()


def build(config: Config, here: World) -> Transformer:
    """The model, spread over the ranks, with its first weights."""
    with torch.device("meta"):
        model = Transformer(config.model)
    parallelize(model, config, here.mesh)
    model.to_empty(device=here.device)
    model.rope.copy_(rope_table(config.model, config.model.context))
    seed = config.train.seed
    for name, parameter in model.named_parameters():
        weight = initial_weight(name, parameter.shape, config.model, seed, here.device)
        load_weights(model, {name: weight}, strict=False)
    return model


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """Give each rank its part of whole tensors that every rank holds."""
    options = StateDictOptions(full_state_dict=True, strict=strict)
    set_model_state_dict(model, dict(weights), options=options)
