"""What every registered recipe and every structure owes, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from prune_cli.core.errors import InputError
from prune_cli.core.launch import Launch
from prune_cli.core.runtime import Runtime
from prune_cli.methods.registry.lookup import methods_of
from prune_cli.methods.registry.method import Method
from prune_cli.methods.training.data.inputs import TrainingSet
from prune_cli.methods.training.loop.timetable import Budget
from prune_cli.methods.training.networks.predict import predict
from prune_cli.methods.training.recipes.job import TrainedModel, TrainingJob

RECIPES, STRUCTURES = (list(methods_of(kind).values()) for kind in ("recipe", "structure"))
STANDARD = next(method for method in RECIPES if method.name == "standard")


class Nobody:
    """Watches nothing."""

    def on_step(self, step: int, steps: int, samples: int, facts: Mapping[str, float]) -> None: ...
    def on_pass(self, row: Mapping[str, float | int]) -> None: ...
    def should_checkpoint(self) -> bool:
        return False

    def save_checkpoint(self, tensors: dict[str, np.ndarray], state: dict[str, Any]) -> None: ...
    def should_stop(self) -> bool:
        return False

    def on_note(self, note: str) -> None: ...


def problem(n: int = 60, moved: np.ndarray | None = None) -> TrainingSet:
    """Three classes that are easily told apart, of vectors."""
    rng = np.random.default_rng(0)
    codes = np.arange(n) % 3
    vectors = (4 * np.eye(6)[codes] + rng.normal(size=(n, 6))).astype(np.float32)
    rows = np.arange(n) if moved is None else moved
    return TrainingSet(vectors[rows], codes[rows], rows, n, 3)


def trained(
    recipe: Method = STANDARD,
    structure: Method | None = None,
    data: TrainingSet | None = None,
    seed: int = 0,
    architecture: str = "mlp:16",
    **more: Any,
) -> TrainedModel:
    job = TrainingJob(
        problem() if data is None else data,
        architecture,
        Budget(steps=40),
        Runtime(device="cpu", batch_size=16, workers=1, seed=seed),
        Nobody(),
        structure=None if structure is None else structure.load()(structure.params_class()()),
        **more,
    )
    found: TrainedModel = recipe.load()(job, recipe.params_class()())
    return found


def same(a: TrainedModel, b: TrainedModel) -> bool:
    return a.model == b.model and all(a.tensors[n].tobytes() == b.tensors[n].tobytes() for n in a.tensors | b.tensors)


def accuracy(found: TrainedModel) -> float:
    data = problem()
    logits_nc = predict(found.tensors, found.model, data.inputs, runtime=Runtime(device="cpu")).logits_nc
    return float((logits_nc.argmax(axis=1) == data.labels_m).mean())


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda m: m.name)
def test_a_recipe_learns_repeats_goes_by_ids_and_leaves_its_inputs_alone(recipe: Method) -> None:
    data = problem()
    inputs, labels = np.array(data.inputs), data.labels_m.copy()
    first = trained(recipe, data=data)
    assert accuracy(first) > 0.9
    assert same(first, trained(recipe)) and not same(first, trained(recipe, seed=1))
    moved = np.random.default_rng(1).permutation(60)
    other = trained(recipe, data=problem(moved=moved))
    assert same(first, other)
    assert np.array_equal(np.asarray(data.inputs), inputs) and np.array_equal(data.labels_m, labels)
    if first.relabels is None:
        return
    assert other.relabels is not None
    for name, values in vars(first.relabels).items():
        assert values.shape == (60,) and getattr(other.relabels, name).tobytes() == values[moved].tobytes()
    assert set(first.relabels.codes_m.tolist()) <= {0, 1, 2}
    assert all(((v >= 0) & (v <= 1)).all() for v in (first.relabels.p_clean_m, first.relabels.confidence_m))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda m: m.name)
def test_processes_share_the_batches_of_a_recipe_where_the_registry_says_so(recipe: Method) -> None:
    """Batches of 16 are too small for 9 processes, which is found out after who may share at all."""
    with pytest.raises(InputError, match="a batch of 16 for 9" if recipe.shares_batches else "trains in one process"):
        trained(recipe, launch=Launch(0, 9, 0, 9))


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda m: m.name)
def test_a_structure_leaves_a_smaller_network_that_predicts_and_repeats_itself(structure: Method) -> None:
    whole, small = trained(), trained(structure=structure)
    assert small.model["structure"]["whole"] == {k: whole.model[k] for k in ("flops", "parameters")}
    assert small.model["flops"] < whole.model["flops"] and small.model["parameters"] < whole.model["parameters"]
    assert sum(tensor.size for tensor in small.tensors.values()) == small.model["parameters"]
    assert accuracy(small) > 0.7, "a third is chance"
    assert same(small, trained(structure=structure))
    assert same(small, trained(structure=structure, data=problem(moved=np.random.default_rng(1).permutation(60))))


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda m: m.name)
def test_a_structure_refuses_a_network_that_has_nothing_to_cut(structure: Method) -> None:
    with pytest.raises(InputError, match="no units and no layers"):
        trained(structure=structure, architecture="linear")
