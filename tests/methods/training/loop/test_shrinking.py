"""Networks that shrink while they train, with every recipe: the same bytes after a stop, whatever the rows' order, and smaller."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from prune_cli.core.errors import InputError
from prune_cli.core.runtime import Runtime
from prune_cli.methods.structure.params import ComplexityAwareParams, MagnitudeParams
from prune_cli.methods.structure.shrinking import complexity_aware, magnitude
from prune_cli.methods.training.loop.timetable import Budget
from prune_cli.methods.training.networks.building import build_network
from prune_cli.methods.training.networks.network import network_cost
from prune_cli.methods.training.networks.predict import predict
from prune_cli.methods.training.recipes.dividemix import DivideMixParams, train_dividemix
from prune_cli.methods.training.recipes.elr import ElrPlusParams, train_elr_plus
from prune_cli.methods.training.recipes.job import TrainingJob
from prune_cli.methods.training.recipes.sgd import StandardParams, train_standard
from prune_cli.methods.training.recipes.sop import SopParams, train_sop

CPU = Runtime(device="cpu", batch_size=32, workers=1)
GATES = complexity_aware(ComplexityAwareParams(strength=1.0, patience=0.1))
RECIPES = [
    (train_standard, StandardParams()),
    (train_sop, SopParams()),
    (train_elr_plus, ElrPlusParams(averaging=0.9)),
    (train_dividemix, DivideMixParams(warmup=1)),
]


def same(a: Any, b: Any) -> bool:
    return a.model == b.model and all(a.tensors[n].tobytes() == b.tensors[n].tobytes() for n in a.tensors | b.tensors)


STRUCTURES = {"gates": GATES, "magnitude": magnitude(MagnitudeParams(rounds=3))}
AT_ONCE = {("gates", train_standard), ("gates", train_dividemix), ("magnitude", train_sop), ("magnitude", train_elr_plus)}
"""Every recipe and every structure once; the other pairs are slow."""


@pytest.mark.parametrize(
    ("structure", "train", "params"),
    [
        pytest.param(
            structure, train, params, id=f"{name}-{train.__name__}",
            marks=() if (name, train) in AT_ONCE else pytest.mark.slow,
        )
        for name, structure in STRUCTURES.items()
        for train, params in RECIPES
    ],
)  # fmt: skip
def test_a_run_goes_on_from_before_and_after_a_cut_to_the_same_bytes(
    train: Any, params: Any, structure: Any, digits: Any, training_set: Any, recorder: Any
) -> None:
    x, y = digits
    seen = recorder(checkpoint_at=(1, 6, 11, 14, 19))
    job = TrainingJob(training_set(x[:128], y[:128]), "resnet9:4", Budget(steps=20), CPU, seen, structure=structure)
    whole = train(job, params)
    sizes = {tuple(t.shape for t in c.tensors.values()) for c in seen.checkpoints}
    assert len(seen.checkpoints) == 5 and len(sizes) > 1  # some before, some after a cut
    for checkpoint in seen.checkpoints:
        again = train(dataclasses.replace(job, observer=recorder(), resume=checkpoint), params)
        assert same(whole, again)
    assert whole.model["flops"] < whole.model["structure"]["whole"]["flops"]


def test_the_order_of_the_rows_changes_nothing(digits: Any, training_set: Any, recorder: Any) -> None:
    x, y = digits
    ranks = np.random.default_rng(1).permutation(200)[:120]
    moved = np.random.default_rng(2).permutation(120)
    a, b = (
        train_standard(
            TrainingJob(training_set(x[p], y[p], ranks=r, n_ranks=200), "resnet9:4", Budget(steps=30), CPU, recorder(), structure=GATES),
            StandardParams(),
        )
        for p, r in ((np.arange(120), ranks), (moved, ranks[moved]))
    )  # fmt: skip
    assert same(a, b)


@pytest.mark.parametrize("architecture", ["resnet9:8", "lenet5", "preactresnet18:4", "mlp:32"])
def test_it_learns_and_what_is_left_is_what_the_model_says(architecture: str, digits: Any, training_set: Any, recorder: Any) -> None:
    x, y = digits
    structure = complexity_aware(ComplexityAwareParams(target_flops=0.5))
    seen = recorder()
    job = TrainingJob(training_set(x[:1400], y[:1400]), architecture, Budget(steps=200), CPU, seen, structure=structure)
    trained = train_standard(job, StandardParams())
    logits = predict(trained.tensors, trained.model, x[1400:], runtime=CPU).logits_nc
    assert (logits.argmax(axis=1) == y[1400:]).mean() > 0.85
    told = trained.model["structure"]
    network = build_network(architecture, (8, 8, 1), 10, seed=0)
    cost = network_cost(network, (8, 8, 1))
    assert told["whole"] == {"flops": cost.flops, "parameters": cost.parameters}
    assert 0.35 * cost.flops < trained.model["flops"] <= 0.5 * cost.flops
    kept = {"weight", "bias"}
    assert trained.model["parameters"] == sum(t.size for n, t in trained.tensors.items() if n.rpartition(".")[2] in kept)
    assert seen.rows[-1]["flops"] == trained.model["flops"] and seen.rows[0]["flops"] <= cost.flops
    n_gates = sum(n for _, n in told["units"].values()) + len(seen.rows[0]["layers"])
    assert all(sum(row["theta"]) == n_gates for row in seen.rows)
    assert seen.rows[-1]["units"] == [live for live, _ in told["units"].values()]


@pytest.mark.parametrize("rounds", [1, 4])
def test_magnitude_cuts_the_smallest_to_the_target(rounds: int, digits: Any, training_set: Any, recorder: Any) -> None:
    x, y = digits
    seen = recorder()
    params = MagnitudeParams(target_flops=0.4, rounds=rounds)
    job = TrainingJob(training_set(x[:320], y[:320]), "vgg16:8", Budget(epochs=10), CPU, seen, structure=magnitude(params))
    trained = train_standard(job, StandardParams())
    whole = trained.model["structure"]["whole"]["flops"]
    assert 0.3 * whole < trained.model["flops"] <= 0.4 * whole
    sizes = [row["flops"] for row in seen.rows]
    assert len(set(sizes)) == rounds + 1 and sizes == sorted(sizes, reverse=True)


def test_a_run_that_stops_early_is_decided_all_the_same(digits: Any, training_set: Any, recorder: Any) -> None:
    x, y = digits
    data = training_set(x[:128], y[:128])
    for structure in (GATES, magnitude(MagnitudeParams(target_flops=0.5))):
        job = TrainingJob(data, "resnet9:4", Budget(epochs=10), CPU, recorder(), structure=structure, stop_epoch=3)
        trained = train_standard(job, StandardParams())
        assert trained.model["flops"] < trained.model["structure"]["whole"]["flops"]
        assert np.isfinite(predict(trained.tensors, trained.model, x[:10], runtime=CPU).logits_nc).all()


def test_times_that_cannot_be_are_refused(digits: Any, training_set: Any, recorder: Any) -> None:
    x, y = digits
    data = training_set(x[:64], y[:64])
    for structure in (complexity_aware(ComplexityAwareParams(start=0.7)), magnitude(MagnitudeParams(start=0.6))):
        with pytest.raises(InputError, match="is not before end"):
            train_standard(TrainingJob(data, "lenet5", Budget(steps=5), CPU, recorder(), structure=structure), StandardParams())
    with pytest.raises(InputError, match="no units and no layers"):
        job = TrainingJob(data, "linear", Budget(steps=5), CPU, recorder(), structure=GATES)
        train_standard(job, StandardParams())


@pytest.mark.gpu
def test_networks_shrink_on_a_gpu_and_repeat_themselves(digits: Any, training_set: Any, recorder: Any) -> None:
    x, y = digits
    job = TrainingJob(
        training_set(x[:640], y[:640]), "resnet9:8", Budget(steps=100), Runtime("cuda", batch_size=64), recorder(), structure=GATES
    )
    a, b = (train_standard(dataclasses.replace(job, observer=recorder()), StandardParams()) for _ in range(2))
    assert same(a, b) and a.model["flops"] < a.model["structure"]["whole"]["flops"]
