"""The training that scores share: what they need of it together, and what it costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from prune_cli.core.errors import InputError
from prune_cli.core.runtime import Runtime, format_size
from prune_cli.io.manifests.data import Dataset
from prune_cli.io.runs.events import EventFolder
from prune_cli.methods.registry.lookup import scores_of_record
from prune_cli.methods.scores.record.grand import gradients_of
from prune_cli.methods.scores.record.needs import GradientLook, RecordNeeds, RecordParams, TrainingParams, early_epoch
from prune_cli.methods.training.loop.recording import RecordSink, Watch, record_bytes
from prune_cli.methods.training.loop.timetable import Budget


@dataclass(frozen=True)
class TrainingSpec:
    """The training that scores share.

    Args:
        recipe: parameters of ``standard``.
        methods: scores of the record -> their parameters.
        save_dynamics: whether all of the record is wanted.
        full: whether to train to the end, whatever the scores need.
        runtime: with the seed of the first run.
        events: where the history also goes; of several runs, in a folder each below it.
    """

    params: TrainingParams
    recipe: Any
    architecture: str
    methods: Mapping[str, RecordParams]
    save_dynamics: bool
    full: bool
    runtime: Runtime
    checkpoint_seconds: float
    events: EventFolder | None = None

    @cached_property
    def needs(self) -> dict[str, RecordNeeds]:
        """Return what each score needs."""
        return {name: params.needs(self.params.epochs) for name, params in self.methods.items()}

    @property
    def stop_epoch(self) -> int:
        """Return the pass after which nothing that is wanted needs more training."""
        return self.params.epochs if self.full else max(needs.epochs for needs in self.needs.values())

    @property
    def prob_change(self) -> bool:
        """Return whether the record keeps how probabilities moved."""
        return self.save_dynamics or any(needs.prob_change for needs in self.needs.values())

    @property
    def looks(self) -> frozenset[int]:
        """Return the passes after which un-augmented samples are looked at."""
        wanted = {epoch for needs in self.needs.values() for epoch in needs.looks}
        return frozenset(wanted | ({early_epoch(self.params.epochs)} if self.save_dynamics else set()))

    @property
    def at_end(self) -> bool:
        """Return whether they are looked at after the last step."""
        return self.save_dynamics or any(needs.at_end for needs in self.needs.values())

    @property
    def gradients(self) -> GradientLook | None:
        """Return the norms of gradients that are recorded; see `wanted_gradients`."""
        return wanted_gradients(self.needs)

    def watch(self, sink: RecordSink) -> Watch:
        """Return what the training records."""
        gradients = self.gradients
        return Watch(
            sink,
            eval_epochs=self.looks,
            at_end=self.at_end,
            prob_change=self.prob_change,
            gradient_norms=None if gradients is None else gradients_of(gradients.variant),
            gradient_epochs=frozenset() if gradients is None else frozenset([gradients.epoch]),
        )

    def events_of(self, run: int) -> EventFolder | None:
        """Return where the history of one run goes."""
        if self.events is None or self.params.runs == 1:
            return self.events
        return EventFolder(self.events.path / f"run-{run}")

    def settings(self, dataset: Dataset, n_rows: int) -> dict[str, Any]:
        """Return everything that decides the weights and the record of a run, but for its seed."""
        return {
            "recipe": "standard",
            "architecture": self.architecture,
            "parameters": dataclasses.asdict(self.recipe),
            "budget": {"epochs": self.params.epochs, "steps": None},
            "stop_epoch": self.stop_epoch,
            "looks": [*sorted(self.looks), *(["end"] if self.at_end else [])],
            "prob_change": self.prob_change,
            "gradients": None if self.gradients is None else dataclasses.asdict(self.gradients),
            "data": dataset.options.identity(),
            "rows": n_rows,
            "batch_size": self.runtime.batch_size,
            "precision": self.runtime.precision,
            "inputs": [dataclasses.asdict(i) for i in dataset.source.inputs],
        }

    def figures(self, input_shape: tuple[int, ...], n_rows: int, n_classes: int) -> dict[str, Any]:
        """Return the figures of ``--plan`` for the trainings."""
        from prune_cli.methods.training.loop.timetable import training_cost

        budget = Budget(epochs=self.stop_epoch)
        cost = training_cost(self.architecture, input_shape, n_classes, budget, n_rows, self.runtime)
        held, disk = record_bytes(n_rows, n_classes, self.stop_epoch, self.prob_change)
        forward = cost["flops"] / (3 * cost["passes_over_data"])
        extra = len(self.looks) + self.at_end + (3 if self.gradients is not None else 0)
        return {
            "trainings": self.params.runs,
            "epochs": self.stop_epoch,
            "epochs_of_schedule": self.params.epochs,
            "flops": self.params.runs * (cost["flops"] + extra * forward),
            "peak_memory_bytes": cost["peak_memory_bytes"] + held,
            "disk_bytes": self.params.runs * (cost["disk_bytes"] + 2 * disk),
        }

    def require_memory(self, n_rows: int, n_classes: int) -> None:
        """Raise where how probabilities move takes more than half of the memory that may be used."""
        held, _ = record_bytes(n_rows, n_classes, self.stop_epoch, self.prob_change)
        if held > self.runtime.memory_budget() // 2:
            moving = ", ".join(scores_of_record(lambda needs: needs.prob_change))
            raise InputError(
                f"recording {n_rows:,} samples of {n_classes:,} classes would hold {format_size(held)}",
                f"leave out {moving} and --save-dynamics, which need the probabilities of the pass before; or raise --memory-limit",
            )


def wanted_gradients(needs: Mapping[str, RecordNeeds]) -> GradientLook | None:
    """Return the norms of gradients that scores need, None where they need none.

    Raises:
        InputError: they need different ones, and a record has one column of them.
    """
    wanted = {name: need.gradients for name, need in needs.items() if need.gradients is not None}
    if len(set(wanted.values())) > 1:
        raise InputError(f"{', '.join(wanted)} need different gradients", "score them one at a time")
    return next(iter(wanted.values()), None)
