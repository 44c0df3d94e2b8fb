"""FinishedRun folders: a trained model, its history, and the checkpoint it resumes from. No pickle is ever written or read."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors import SafetensorError
from safetensors.numpy import load, load_file, save

from prune_cli.core.errors import InputError
from prune_cli.io.parquet.provenance import InputFile, Provenance, hash_file
from prune_cli.io.parquet.tables import write_table
from prune_cli.io.runs.finished import LOCK, locked_folder
from prune_cli.io.stores.atomic import atomic_file, publish_folder

MODEL = "model.json"
WEIGHTS = "model.safetensors"
HISTORY = "history.parquet"
CHECKPOINT = "checkpoint"
SPOOL = "images"
_STATE_KEY = "state"


@dataclass(frozen=True)
class FinishedRun:
    """A finished run: ``model.json`` and the weights by name."""

    path: Path
    model: dict[str, Any]
    tensors: dict[str, np.ndarray]


class RunBuilder:
    """Builds ``<name>.incomplete`` and renames it to ``<name>`` when it is whole.

    Args:
        force: replace a finished one.
        resume: go on from the checkpoint that an interrupted run left; without it what that run left is removed, if ``force`` says so.
        settings: everything the weights depend on; a checkpoint of other settings is refused.
    Raises:
        InputError: the folder exists already, or what is in the way is not ours or not asked to go; see `check_run_output`.
    """

    def __init__(self, final: Path, *, force: bool, resume: bool, settings: Mapping[str, Any]) -> None:
        self.final = final
        self.building = final.with_name(f"{final.name}.incomplete")
        self._settings = json.loads(json.dumps(settings, sort_keys=True))
        check_run_output(final, force=force, resume=resume)
        self._resume = resume
        self._held = contextlib.ExitStack()

    def open(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Make the folder, which no other run may work in until `building_on` ends; return the checkpoint to go on from.

        Returns:
            Its tensors and state, or None to start at the beginning.
        Raises:
            InputError: another run works there, or the checkpoint is of other settings.
        """
        self._held.enter_context(locked_folder(self.building, patience=2.0, cure="wait for it, or name another with -o"))
        try:
            found = self._read_checkpoint(self.building) if self._resume else None
        except BaseException:
            self._held.close()
            raise
        for entry in self.building.iterdir() if found is None else ():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != LOCK:
                entry.unlink()
        return found

    @contextlib.contextmanager
    def building_on(self) -> Iterator[None]:
        """Within the block the folder may be filled; an error leaves it only where it holds a checkpoint to resume from."""
        try:
            yield
        except BaseException:
            if not (self.building / CHECKPOINT / WEIGHTS).is_file():
                shutil.rmtree(self.building, ignore_errors=True)
            raise
        finally:
            shutil.rmtree(self.building / SPOOL, ignore_errors=True)
            self._held.close()

    def spool_folder(self) -> Path:
        """Return an empty folder for images on their way, removed when the block ends."""
        folder = self.building / SPOOL
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def save_checkpoint(self, tensors: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Write one checkpoint file, whole or not at all."""
        folder = self.building / CHECKPOINT
        folder.mkdir(exist_ok=True)
        text = json.dumps({"settings": self._settings, "state": state}, sort_keys=True)
        with atomic_file(folder / WEIGHTS) as file:
            file.write(save({k: np.asarray(v, order="C") for k, v in tensors.items()}, metadata={_STATE_KEY: text}))

    def finish(
        self,
        model: Mapping[str, Any],
        tensors: Mapping[str, np.ndarray],
        history: pa.Table,
        provenance: Provenance,
        more: Mapping[str, bytes] | None = None,
    ) -> None:
        """Write the model, weights, history and more files, put the folder in place, and only then remove the checkpoint."""
        for name, content in (more or {}).items():
            with atomic_file(self.building / name) as file:
                file.write(content)
        with atomic_file(self.building / WEIGHTS) as file:
            file.write(save({k: np.asarray(v, order="C") for k, v in tensors.items()}, metadata={"prune": provenance.to_json()}))
        with atomic_file(self.building / MODEL) as file:
            file.write((json.dumps({**model, "provenance": provenance.to_dict()}, sort_keys=True, indent=1) + "\n").encode())
        write_table(str(self.building / HISTORY), history, provenance)
        shutil.rmtree(self.building / SPOOL, ignore_errors=True)
        (self.building / LOCK).unlink(missing_ok=True)
        publish_folder(self.building, self.final)
        shutil.rmtree(self.final / CHECKPOINT, ignore_errors=True)

    def _read_checkpoint(self, folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        path = folder / CHECKPOINT / WEIGHTS
        if not path.is_file():
            return None
        try:
            raw = path.read_bytes()
            tensors = load(raw)
            header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
            stored = json.loads(header["__metadata__"][_STATE_KEY])
        except (SafetensorError, ValueError, KeyError) as error:
            raise InputError(f"{path} is damaged: {error}", "start again without --resume") from error
        other = _differences(stored["settings"], self._settings)
        if other:
            raise InputError(
                f"{path} was made with other settings: {'; '.join(other[:5])}",
                "resume with the settings it was made with, or start again without --resume",
            )
        return tensors, stored["state"]


class FollowingBuilder(RunBuilder):
    """The builder of a process that trains the same network as another, which leads: it leaves nothing behind.

    Args:
        final: the folder that the leading process makes, whose checkpoint this one goes on from.
        rank: number of this process, 1 or more.
        resume, settings: as the leading process has them.
    """

    def __init__(self, final: Path, rank: int, *, resume: bool, settings: Mapping[str, Any]) -> None:
        super().__init__(final, force=True, resume=resume, settings=settings)
        self._led = self.building
        self.building = final.with_name(f".{final.name}.rank{rank}")

    def open(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Make a folder for what is on its way, and return the leading process's checkpoint."""
        shutil.rmtree(self.building, ignore_errors=True)
        self.building.mkdir()
        return self._read_checkpoint(self._led) if self._resume else None

    @contextlib.contextmanager
    def building_on(self) -> Iterator[None]:
        """Within the block the folder may be filled; it is removed when the block ends."""
        try:
            yield
        finally:
            shutil.rmtree(self.building, ignore_errors=True)

    def save_checkpoint(self, tensors: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Leave it to the leading process."""

    def finish(self, *_: Any, **__: Any) -> None:
        """Leave it to the leading process."""


def check_run_output(final: Path, *, force: bool, resume: bool = False) -> None:
    """Raise before any work is done when the run folder cannot be made.

    Raises:
        InputError: it exists and neither ``force`` nor ``resume`` is given, it is not a run folder, or its folder is missing; what stands
            where it is built is not ours, or holds a checkpoint and neither is given.
    """
    if final.exists():
        if not (final / MODEL).is_file():
            raise InputError(f"output {final} exists and is not a run folder", "name another with -o")
        if not force and not resume:
            raise InputError(f"output {final} exists already", "pass --force to replace it, or name another with -o")
    if not final.parent.is_dir():
        raise InputError(f"the folder of output {final} does not exist", f"make it: mkdir -p {final.parent}")
    building = final.with_name(f"{final.name}.incomplete")
    checkpoint = (building / CHECKPOINT / WEIGHTS).is_file()
    ours = checkpoint or (building / LOCK).is_file()
    if building.exists() and not ours and not (building.is_dir() and not any(building.iterdir())):
        raise InputError(f"{building} is in the way, and was not made by prune", "rename it, or name another with -o")
    if checkpoint and not force and not resume:
        raise InputError(f"an interrupted training is kept in {building}", "go on with --resume, or pass --force to begin anew and lose it")


def read_run(path: Path) -> FinishedRun:
    """Return a finished run.

    Raises:
        InputError: no such folder, an unfinished one, or damaged files.
    """
    if not path.is_dir():
        raise InputError(f"{path} is not a run folder", "give the folder that prune train wrote")
    if not (path / MODEL).is_file():
        cure = "finish it: prune train ... --resume" if path.name.endswith(".incomplete") else "give the folder that prune train wrote"
        raise InputError(f"{path} has no {MODEL}", cure)
    try:
        model = json.loads((path / MODEL).read_text())
        tensors = load_file(path / WEIGHTS)
    except (ValueError, OSError, SafetensorError) as error:
        raise InputError(f"{path} is damaged: {error}", "train again") from error
    return FinishedRun(path, model, tensors)


def run_files(run: FinishedRun) -> tuple[InputFile, ...]:
    """Return the name and SHA-256 of the files that say what a run is."""
    folder = run.path.resolve().name
    return tuple(InputFile(f"{folder}/{name}", hash_file(run.path / name).sha256) for name in (MODEL, WEIGHTS))


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a safetensors file, whatever their dtype, as float32.

    Raises:
        InputError: it is damaged.
    """
    try:
        return {name: np.asarray(array, np.float32) for name, array in load_file(path).items()}
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is not a whole safetensors file: {error}", "make or fetch the file again") from error


def same_settings(run: FinishedRun, settings: Mapping[str, Any]) -> bool:
    """Return whether a finished run was made with these settings."""
    return not _differences(run.model.get("settings", {}), json.loads(json.dumps(settings, sort_keys=True)))


def _differences(a: Any, b: Any, name: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted({*a, *b})
        return [found for key in keys for found in _differences(a.get(key), b.get(key), f"{name}.{key}" if name else key)]
    return [] if a == b else [f"{name} was {a}, is {b}"]
