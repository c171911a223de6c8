"""The ranks that train together, and the model that is spread over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, distribute_tensor

from llama_train.config import Config, layout
from llama_train.errors import TrainError
from llama_train.host import end_with_torchrun, hold_freed_memory, is_launched, local_rank
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
        hold_freed_memory()
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
    """The model, spread over the ranks; what its weights are is left open."""
    with torch.device("meta"):
        model = Transformer(config.model)
    parallelize(model, config, here.mesh)
    model.to_empty(device=here.device)
    model.rope.copy_(rope_table(config.model, config.model.context))
    return model


def initialise(model: Transformer, seed: int, device: torch.device) -> None:
    """Give the model its first weights, which are a function of the seed."""
    for name, parameter in model.named_parameters():
        _place(parameter, initial_weight(name, parameter.shape, model.shape, seed, device))


def load_weights(model: Transformer, read: Callable[[], Mapping[str, Tensor]], here: World) -> None:
    """Give each rank its part of whole weights, which rank 0 alone reads; one is sent at a time.

    Raises on every rank the TrainError that reading raised on rank 0.
    """
    weights: Mapping[str, Tensor] = {}
    failure: list[TrainError | None] = [None]
    if here.rank == 0:
        try:
            weights = read()
        except TrainError as error:
            failure = [error]
    dist.broadcast_object_list(failure)
    if failure[0] is not None:
        raise failure[0]
    for name, parameter in model.named_parameters():
        whole = torch.empty(parameter.shape, device=here.device)
        if here.rank == 0:
            whole.copy_(weights[name])
        dist.broadcast(whole, 0)
        _place(parameter, whole)


@torch.no_grad()
def _place(parameter: nn.Parameter, whole: Tensor) -> None:
    """Copy this rank's part of a tensor that every rank holds whole."""
    if isinstance(parameter, DTensor):
        mesh, placements = parameter.device_mesh, parameter.placements
        parameter.copy_(distribute_tensor(whole, mesh, placements, src_data_rank=None))
    else:
        parameter.copy_(whole)
