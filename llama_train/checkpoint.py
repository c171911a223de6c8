"""Checkpoints by torch.distributed.checkpoint: written beside the training, whole or not at all.

A checkpoint is a folder `step-00000100`. It is written as `….part` and renamed when every rank's
part and then `manifest.json` are on disk; the file `latest` names the newest. Any number of ranks
can read it. The manifest lists every file with its size, which shows whether one is torn.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    get_state_dict,
    set_state_dict,
)
from torch.distributed.checkpoint.state_dict_saver import async_save

from llama_train.checkpoint_reader import METADATA, read_tensors, reason
from llama_train.config import Checkpoints, Config, ModelShape, from_dict, keys
from llama_train.errors import TrainError

CHECKPOINTS = "checkpoints"
"""The folder of them, in a run's own."""
MANIFEST = "manifest.json"
_NAME = re.compile(r"step-[0-9]{8,}")

Parts = Mapping[str, tuple[nn.Module, torch.optim.Optimizer]]
"""What is trained, by name; the model itself has none ("")."""


@dataclass(slots=True)
class Progress:
    """All of the training's state that is not a tensor."""

    step: int = 0
    tokens: int = 0
    skipped: int = 0
    """Steps whose loss or gradient was not finite, so far."""
    skipped_in_a_row: int = 0
    first_held_out_loss: float | None = None
    first_reward: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of `manifest.json`, beside the checkpoint that it describes."""

    progress: Progress
    config: Config
    data_fingerprint: str
    files: dict[str, int]
    """Name → bytes."""


class Store:
    """The checkpoints of one run. Every method is called by every rank."""

    def __init__(self, folder: Path, config: Config, data_fingerprint: str) -> None:
        self._folder = folder
        self._config = config
        self._fingerprint = data_fingerprint
        self._writing: tuple[Future[Any], Path, Progress] | None = None
        self._leads = dist.get_rank() == 0
        # Its own group: the writing thread's messages must not meet those of the training.
        self._group = dist.new_group(backend="gloo")
        if self._leads:
            folder.mkdir(parents=True, exist_ok=True)
            for torn in folder.glob("step-*.part"):
                if _NAME.fullmatch(torn.stem):
                    shutil.rmtree(torn)
        dist.barrier()

    def save(self, parts: Parts, progress: Progress) -> None:
        """Copy the state and return; a thread writes it while the training goes on."""
        self.finish()
        part = self._folder / f"step-{progress.step:08d}.part"
        future = async_save(_state(parts), checkpoint_id=part, process_group=self._group)
        assert isinstance(future, Future)
        self._writing = future, part, Progress(**asdict(progress))

    @property
    def pending(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._writing is not None

    def poll(self) -> None:
        """Put a checkpoint in place if its writing has ended. Raises TrainError if it failed."""
        if self._writing and self._writing[0].done():
            self.finish()

    def finish(self) -> None:
        """Wait for the checkpoint that is being written, and put it in place."""
        if not self._writing:
            return
        future, part, progress = self._writing
        self._writing = None
        try:
            future.result()
            # Rank 0 ends last: it writes the metadata once it knows that every rank has written.
            if self._leads:
                self._commit(part, progress)
        except (Exception, CheckpointException) as error:  # the latter is not an Exception
            if self._leads:
                shutil.rmtree(part, ignore_errors=True)
            raise TrainError(
                f"Checkpoint {part.with_suffix('')} could not be written: {reason(error)}.",
                hint="The one before it, if any, is whole: make room and --resume.",
                exit_code=1,
            ) from error

    def load(self, parts: Parts) -> tuple[Progress, list[str]]:
        """Read the newest whole checkpoint; returns its progress and a line for each torn one.

        Raises TrainError if none is whole, or it belongs to another model, other data or another
        order of the data.
        """
        found: list[Any] = [None]
        if self._leads:
            found = [_newest(self._folder)]
        dist.broadcast_object_list(found)
        path, manifest, torn = found[0]
        if manifest is None:
            raise TrainError(f"No checkpoint in {self._folder} is whole.", exit_code=1)
        _same_model(manifest.config.model, self._config.model, path)
        if manifest.data_fingerprint != self._fingerprint:
            raise TrainError(
                f"{path} was trained on other data than this (fingerprint "
                f"{manifest.data_fingerprint[:12]}, not {self._fingerprint[:12]}).",
                hint="Resume with the folder that the run began with.",
            )
        _same_order(manifest.config, self._config, path)
        state = _state(parts)
        read_tensors(state, path)
        for name, (model, optimizer) in parts.items():
            set_state_dict(
                model,
                optimizer,
                model_state_dict=state[f"{name}model"],
                optim_state_dict=state[f"{name}optimizer"],
            )
        return manifest.progress, torn

    def _commit(self, part: Path, progress: Progress) -> None:
        files = {file.name: file.stat().st_size for file in part.iterdir()}
        manifest = Manifest(progress, self._config, self._fingerprint, files)
        _write(part / MANIFEST, json.dumps(asdict(manifest), indent=1))
        final = part.with_suffix("")
        if final.exists():
            shutil.rmtree(final)
        part.replace(final)
        _write(self._folder / "latest", final.name)
        # One of a later step is torn, and was passed over.
        known = [path for path in checkpoints(self._folder) if _step(path) <= progress.step]
        for path in _retired(known, self._config.checkpoint):
            shutil.rmtree(path)


def _state(parts: Parts) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for name, (model, optimizer) in parts.items():
        state[f"{name}model"], state[f"{name}optimizer"] = get_state_dict(model, optimizer)
    return state


def newest(run: Path) -> tuple[Path, Manifest]:
    """The newest whole checkpoint of a run's output folder, and what it says of itself."""
    path, manifest, _ = _newest(run / CHECKPOINTS)
    if path is None or manifest is None:
        raise TrainError(f"{run} holds no whole checkpoint.")
    return path, manifest


def _same_model(found: ModelShape, wanted: ModelShape, where: Path) -> None:
    if differences := found.differences(wanted):
        raise TrainError(f"{where} is a checkpoint of another model: {', '.join(differences)}.")


def _same_order(found: Config, wanted: Config, where: Path) -> None:
    """The sequences of a step follow from these; with others some would come twice or never."""
    before, now = keys(found), keys(wanted)
    differences = [
        f"--{key}={before[key]} and not {now[key]}"
        for key in ("train.seed", "train.batch_size", "model.context")
        if before[key] != now[key]
    ]
    if differences:
        raise TrainError(
            f"{where} was trained with {', '.join(differences)}, on which the order of the data "
            "depends.",
            hint="Resume with the settings that the run began with.",
        )


def _newest(folder: Path) -> tuple[Path | None, Manifest | None, list[str]]:
    """(path, manifest, a line for each torn checkpoint that is newer)."""
    torn: list[str] = []
    for path in reversed(checkpoints(folder)):
        try:
            return path, _whole(path), torn
        except _Torn as why:
            torn.append(f"{path.name} is torn ({why}); the one before it is used")
    return None, None, torn


class _Torn(Exception):
    """A checkpoint that is not whole, with the reason."""


def _whole(path: Path) -> Manifest:
    """The manifest of a checkpoint whose files are all there; raises _Torn."""
    manifest = _manifest(path)
    for name, size in manifest.files.items():
        file = path / name
        if not file.is_file():
            raise _Torn(f"{name} is missing")
        if file.stat().st_size != size:
            raise _Torn(f"{name} has {file.stat().st_size} of {size} bytes")
    return manifest


def _is_whole(path: Path) -> bool:
    """Whether it can be resumed from, here."""
    try:
        _whole(path)
    except (_Torn, TrainError):
        return False
    return True


def _manifest(path: Path) -> Manifest:
    try:
        data = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        progress, files = Progress(**data["progress"]), dict(data["files"])
        fingerprint = str(data["data_fingerprint"])
    except (OSError, ValueError, LookupError, TypeError):
        raise _Torn(f"no readable {MANIFEST}") from None
    if METADATA not in files:
        raise _Torn(f"no {METADATA} in {MANIFEST}")
    return Manifest(progress, from_dict(data["config"], path / MANIFEST), fingerprint, files)


def checkpoints(folder: Path) -> Sequence[Path]:
    """Those that were put in place, whole or torn, the oldest first.

    What has another name, as a copy that a user made of one, is none.
    """
    found = (path for path in folder.glob("step-*") if _NAME.fullmatch(path.name))
    return sorted((path for path in found if path.is_dir()), key=_step)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _retired(paths: Sequence[Path], keep: Checkpoints) -> list[Path]:
    """All that are older than the last N whole ones, but every Mth; a link stays, which a user made
    to where there is room.
    """

    def stays(path: Path) -> bool:
        is_mth = bool(keep.keep_every) and _step(path) % keep.keep_every == 0
        return is_mth or path.is_symlink()

    whole = 0
    for place, path in reversed([*enumerate(paths)]):
        whole += _is_whole(path)
        if whole == keep.keep_last:
            return [older for older in paths[:place] if not stays(older)]
    return []


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".tmp")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
