"""Tensors out of a checkpoint that anybody may have written: it is data, and nothing in it is run.

torch.distributed.checkpoint unpickles the file `.metadata`, and every value that is not a tensor;
a pickle may call any function. Here the first may name nothing but the classes of a checkpoint's
metadata, and the second is not read at all: settings are those of the run's own configuration.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from dataclasses import is_dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import torch
from torch.distributed.checkpoint import filesystem, metadata
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.state_dict_loader import load  # noqa: TID251
from torch.serialization import _get_layout

from llama_train.errors import TrainError

METADATA = ".metadata"

_CLASSES = (
    metadata.Metadata,
    metadata.TensorStorageMetadata,
    metadata.BytesStorageMetadata,
    metadata.ChunkStorageMetadata,
    metadata.TensorProperties,
    metadata.MetadataIndex,
    metadata.StorageMeta,
    metadata._MEM_FORMAT_ENCODING,
    filesystem._StorageInfo,
    torch.Size,
    _get_layout,
)
_BUILT = {one for one in _CLASSES if is_dataclass(one)}
_PATHS = (("pathlib", "PosixPath"), ("pathlib._local", "PosixPath"))
_ALLOWED: Mapping[tuple[str, str], Any] = {
    **{(known.__module__, known.__qualname__): known for known in _CLASSES},
    **{("torch", name): value for name, value in vars(torch).items() if type(value) is torch.dtype},
    **dict.fromkeys(_PATHS, PurePosixPath),
}


def read_tensors(state: dict[str, Any], folder: Path, *, alone: bool = False) -> None:
    """Fill the tensors of the state in place; `alone`: without the other ranks.

    Raises TrainError, which names the folder, if it does not hold them.
    """
    try:
        reader = _Reader(folder, _metadata(folder))
        with warnings.catch_warnings():
            # It warns that it reads with one process, which is what no_dist asks for.
            warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
            load(state, storage_reader=reader, planner=_TensorPlanner(), no_dist=alone)
    except (Exception, CheckpointException) as error:  # the latter is not an Exception
        raise TrainError(f"The weights in {folder} cannot be read: {reason(error)}.") from error


def reason(error: BaseException) -> str:
    """One line; of several ranks' failures the first."""
    if isinstance(error, CheckpointException):
        error, _ = next(iter(error.failures.values()))
    return str(error).strip().split("\n", 1)[0].rstrip(".") or type(error).__name__


_InPython: Any = pickle._Unpickler


class _Unpickler(_InPython):  # type: ignore[misc]
    """The one that Python has in Python, for that in C lets nobody look at BUILD: on a class, it
    sets what this whole process then takes for the class's own.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(_InPython.dispatch)

    def load_build(self) -> None:
        built = type(self.stack[-2])
        if built not in _BUILT:
            raise pickle.UnpicklingError(f"{METADATA} changes a {built.__name__}")
        super().load_build()

    dispatch[pickle.BUILD[0]] = load_build

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(
                f"{METADATA} names {module}.{name}, which is not part of a checkpoint"
            )
        return _ALLOWED[module, name]


def _metadata(folder: Path) -> metadata.Metadata:
    with (folder / METADATA).open("rb") as file:
        found = _Unpickler(file).load()
    if not isinstance(found, metadata.Metadata):
        raise pickle.UnpicklingError(f"{METADATA} is not the metadata of a checkpoint")
    for place in found.storage_data.values():
        if Path(place.relative_path).name != place.relative_path:
            raise pickle.UnpicklingError(f"{METADATA} names {place.relative_path}, outside of it")
    return found


class _Reader(filesystem.FileSystemReader):
    """DCP's reader of files, given the metadata."""

    def __init__(self, folder: Path, found: metadata.Metadata) -> None:
        super().__init__(folder)
        self._found = found

    def read_metadata(self, *_args: Any, **_kwargs: Any) -> metadata.Metadata:
        self._found.storage_meta = metadata.StorageMeta(load_id=self.load_id)
        return self._found


class _TensorPlanner(DefaultLoadPlanner):
    def load_bytes(self, read_item: ReadItem, value: BytesIO) -> None:
        name = read_item.dest_index.fqn
        if isinstance(self.state_dict[name], torch.Tensor):
            raise pickle.UnpicklingError(f"{name} is not stored as a tensor")
