"""Checkpoints of a training: networks, momenta, what the recipe knows of samples, sums of the pass under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InputError, NumericalError
from prune_cli.methods.training.loop.observer import Checkpoint
from prune_cli.methods.training.loop.pass_ledger import PassLedger
from prune_cli.methods.training.loop.pieces import Pieces
from prune_cli.methods.training.loop.structure import Structure
from prune_cli.methods.training.recipes.learner import Learner

if TYPE_CHECKING:
    import torch

    from prune_cli.methods.training.networks.networks import Network


def take_snapshot(
    step: int,
    networks: Sequence[Network],
    optimizers: Sequence[torch.optim.Optimizer],
    learner: Learner,
    structure: Structure,
    ledger: PassLedger,
    pieces: Pieces,
    settings: Mapping[str, Any],
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return arrays by name and JSON values, from which `restore` goes on to the same bytes.

    Raises:
        NumericalError: a weight is NaN or infinite.
    """
    check_weights(networks, step, ledger)
    tensors = {f"sample/{name}": tensor for name, tensor in learner.arrays().items()}
    tensors |= {f"structure/{name}": tensor for name, tensor in structure.arrays().items()}
    for number, (network, optimizer) in enumerate(zip(networks, optimizers, strict=True)):
        tensors |= {f"network{_of(number)}/{name}": tensor for name, tensor in network.state_dict().items()}
        for name, parameter in network.named_parameters():
            momentum = optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum{_of(number)}/{name}"] = momentum
    arrays = {name: np.array(tensor.detach().cpu().numpy(), order="C") for name, tensor in tensors.items()}
    state = {"step": step, "sums": ledger.sums(), "pieces": pieces.count, "settings": dict(settings)}
    state["structure"] = structure.state()
    if ledger.recorder is not None:
        recorded, state["record"] = ledger.recorder.state()
        arrays |= recorded
    return arrays, state


def restore(
    resume: Checkpoint,
    networks: Sequence[Network],
    optimizers: Sequence[torch.optim.Optimizer],
    learner: Learner,
    structure: Structure,
    ledger: PassLedger,
    pieces: Pieces,
    settings: Mapping[str, Any],
) -> int:
    """Put a checkpoint into everything that trains, and return the step to go on with.

    Raises:
        InputError: it is of another run.
    """
    import torch

    found = resume.state.get("settings", {})
    differing = [name for name in settings if found.get(name) != settings[name]]
    if differing:
        named = ", ".join(f"{name} (then {found.get(name)}, now {settings[name]})" for name in differing)
        raise InputError(f"the checkpoint is of another run: {named}", "repeat the settings of that run, or start anew")

    def stored(name: str) -> torch.Tensor:
        return torch.from_numpy(np.array(resume.tensors[name]))

    with torch.no_grad():
        gates = {n.removeprefix("structure/"): stored(n) for n in resume.tensors if n.startswith("structure/")}
        for number, (network, optimizer) in enumerate(zip(networks, optimizers, strict=True)):
            prefix = f"network{_of(number)}/"
            shapes = {n.removeprefix(prefix): t.shape for n, t in resume.tensors.items() if n.startswith(prefix)}
            change = structure.restore(number, network, gates, resume.state.get("structure"), shapes)
            if change is not None:
                change(network, optimizer)
                learner.reshape(number, change)
        learner.load({name: stored(f"sample/{name}") for name in learner.arrays()})
        for number, (network, optimizer) in enumerate(zip(networks, optimizers, strict=True)):
            for name, tensor in network.state_dict().items():
                tensor.copy_(stored(f"network{_of(number)}/{name}"))
            for name, parameter in network.named_parameters():
                if f"momentum{_of(number)}/{name}" in resume.tensors:
                    momentum = torch.empty_like(parameter)  # the same memory format, which the fused update relies on
                    momentum.copy_(stored(f"momentum{_of(number)}/{name}"))
                    optimizer.state[parameter]["momentum_buffer"] = momentum
    ledger.take_up(resume.state["sums"])
    pieces.count = int(resume.state.get("pieces", 1))
    if ledger.recorder is not None:
        ledger.recorder.take_up(resume.tensors, resume.state["record"])
    return int(resume.state["step"])


def _of(number: int) -> str:
    return str(number + 1) if number else ""


def check_weights(networks: Sequence[Network], step: int, ledger: PassLedger) -> None:
    """Raise where a weight is no longer finite.

    Raises:
        NumericalError: a weight is NaN or infinite.
    """
    import torch

    if not all(bool(torch.isfinite(tensor).all()) for network in networks for tensor in network.state_dict().values()):
        raise NumericalError(
            f"a weight is no longer finite after step {step} (epoch {ledger.number + 1})",
            "lower the learning rate (-p lr=), or warm up longer (-p warmup_fraction=)",
        )
