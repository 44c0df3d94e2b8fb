"""Re-labeling recipes: losses by hand and by a slow form, exact resumes, and that they correct labels."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from prune_cli.core.runtime import Runtime
from prune_cli.methods.training.loop.timetable import Budget
from prune_cli.methods.training.networks.predict import predict
from prune_cli.methods.training.recipes.dividemix import DivideMixParams, clean_probability, mixed_losses, sharpen, train_dividemix
from prune_cli.methods.training.recipes.elr import ElrParams, ElrPlusParams, elr_losses, elr_target, train_elr, train_elr_plus
from prune_cli.methods.training.recipes.job import TrainingJob
from prune_cli.methods.training.recipes.relabeling import mixing, relabel
from prune_cli.methods.training.recipes.sgd import StandardParams, train_standard
from prune_cli.methods.training.recipes.sop import SopParams, SparseOverParameterization, sop_losses, train_sop

CPU = Runtime(device="cpu", batch_size=32, workers=1)
RECIPES: list[tuple[Callable[..., Any], Any]] = [
    (train_sop, SopParams()),
    (train_elr, ElrParams()),
    (train_elr_plus, ElrPlusParams(averaging=0.9)),
    (train_dividemix, DivideMixParams(warmup=2)),
]


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    return np.asarray(e / e.sum())


def slow_sop(
    views: list[np.ndarray], labels: list[int], u: np.ndarray, v: np.ndarray, rc: float, rb: float, held: np.ndarray | None = None
) -> float:
    """The mean loss from the formula, sample by sample; ``held`` is v where it is not to be differentiated."""
    total, n_classes = 0.0, views[0].shape[1]
    normalized = []
    for i, label in enumerate(labels):
        p, y = softmax(views[0][i]), np.eye(n_classes)[label]
        toward, away = u[i] ** 2 * y, v[i] ** 2 * (1 - y)
        away_held = away if held is None else held[i] ** 2 * (1 - y)
        q = np.maximum(p + toward - away_held, 1e-4)
        total -= math.log(q[label] / q.sum())
        normalized.append(q / q.sum())
        total += float(((np.eye(n_classes)[views[0][i].argmax()] + toward - away - y) ** 2).sum())
        if len(views) > 1:
            total += rc * float((p * np.log(p / softmax(views[1][i]))).sum())
    balance = float(np.log(np.clip(np.mean(normalized, axis=0), 1e-4, 1)).mean())
    return total / len(labels) - rb * balance


def test_sop_by_hand() -> None:
    logits = torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64)  # p = 3/4, 1/4
    u, v = torch.tensor([[0.5]], dtype=torch.float64), torch.tensor([[9.0, 0.2]], dtype=torch.float64)
    wrong, right = (sop_losses((logits,), torch.tensor([label]), u, v, 0.9, 0.0) for label in (1, 0))
    # label 1: q = (3/4 - clamp(81), 1/4 + 1/4) -> (1e-4, 1/2); h = (1, 0): (1 - 1)^2 + (1/4 - 1)^2
    assert math.isclose(wrong.item(), -math.log(0.5 / 0.5001) + 0.5625, rel_tol=1e-9)
    # label 0: q = (3/4 + 1/4, 1/4 - .04), h = (1, 0): (1/4)^2 + .04^2
    assert math.isclose(right.item(), -math.log(1 / 1.21) + 0.0625 + 0.0016, rel_tol=1e-9)
    balance = sop_losses((logits,), torch.tensor([0]), u, v, 0.0, 0.1) - right
    # of q = (1, .21) / 1.21, as the authors have it, not of p
    assert math.isclose(balance.item(), -0.05 * (math.log(1 / 1.21) + math.log(0.21 / 1.21)), rel_tol=1e-9)


def test_sop_equals_its_slow_form_with_the_gradients_of_u_and_v() -> None:
    rng = np.random.default_rng(0)
    views = [rng.normal(size=(6, 4)) for _ in range(2)]
    labels, u, v = [0, 3, 1, 2, 2, 0], rng.uniform(0.1, 0.6, (6, 1)), rng.uniform(0.05, 0.3, (6, 4))
    u_t, v_t = torch.tensor(u, requires_grad=True), torch.tensor(v, requires_grad=True)
    loss = sop_losses(tuple(torch.tensor(z) for z in views), torch.tensor(labels), u_t, v_t, 0.9, 0.1).mean()
    assert math.isclose(loss.item(), slow_sop(views, labels, u, v, 0.9, 0.1), rel_tol=1e-9)
    loss.backward()  # type: ignore[no-untyped-call]
    assert u_t.grad is not None and v_t.grad is not None
    step = 1e-6
    for where in np.ndindex(u.shape):
        move = np.zeros_like(u)
        move[where] = step
        slope = (slow_sop(views, labels, u + move, v, 0.9, 0.1) - slow_sop(views, labels, u - move, v, 0.9, 0.1)) / (2 * step)
        assert abs(u_t.grad[where].item() - slope) < 1e-7
    for where in np.ndindex(v.shape):
        move = np.zeros_like(v)
        move[where] = step
        slope = (slow_sop(views, labels, u, v + move, 0.9, 0.1, held=v) - slow_sop(views, labels, u, v - move, 0.9, 0.1, held=v)) / (
            2 * step
        )
        assert abs(v_t.grad[where].item() - slope) < 1e-7


def test_sop_moves_u_and_v_of_the_samples_it_saw_by_plain_sgd(training_set: Any) -> None:
    from prune_cli.methods.training.loop.contract import StepSamples

    data = training_set(np.zeros((5, 3), np.float32), np.array([0, 1, 1, 0, 1]), n_classes=2)
    learner = SparseOverParameterization(data, SopParams(lr_u=2.0, lr_v=3.0), 0, torch.device("cpu"))
    learner.u_m1[:], learner.v_mc[:] = 0.5, 0.2
    before = learner.v_mc.clone()
    positions, labels = torch.tensor([3, 1]), torch.tensor([0, 1])
    views = (torch.tensor([[0.3, 0.1], [0.9, -0.2]], requires_grad=True),)
    _, losses = learner.losses(0, lambda k, x: x, StepSamples(positions, labels, views, 0, 0, 2))
    losses.mean().backward()  # type: ignore[no-untyped-call]
    pending = learner.noted[0]
    assert pending[1].grad is not None
    expected = 0.5 - 2.0 * pending[1].grad
    learner.update(0)
    assert torch.allclose(learner.u_m1[positions], expected) and not torch.allclose(expected, torch.tensor(0.5))
    untouched = [0, 2, 4]
    assert (learner.u_m1[untouched] == 0.5).all() and torch.equal(learner.v_mc[untouched], before[untouched])
    assert not learner.noted


def test_both_views_of_sop_go_through_the_network_as_one_batch(training_set: Any) -> None:
    """Batch normalisation then has the statistics of both: with views 0 and 2 and one batch they become -1 and 1."""
    from prune_cli.methods.training.loop.contract import StepSamples

    data = training_set(np.zeros((2, 2), np.float32), np.array([0, 1]), n_classes=2)
    learner = SparseOverParameterization(data, SopParams(), 0, torch.device("cpu"))
    seen = []

    def forward(turn: int, batch: torch.Tensor) -> torch.Tensor:
        seen.append(batch.shape[0])
        return (batch - batch.mean()) / batch.std(correction=0)

    views = (torch.zeros((2, 2)), torch.full((2, 2), 2.0))
    logits, _ = learner.losses(0, forward, StepSamples(torch.tensor([0, 1]), torch.tensor([0, 1]), views, 0, 0, 2))
    assert seen == [4] and torch.equal(logits, torch.full((2, 2), -1.0))


def test_elr_by_hand() -> None:
    target = elr_target(torch.tensor([[0.4, 0.2]]), torch.tensor([[0.9, 0.1]]), beta=0.7)
    assert torch.allclose(target, torch.tensor([[0.7 * 0.4 + 0.3 * 0.9, 0.7 * 0.2 + 0.3 * 0.1]]))
    logits = torch.tensor([[math.log(4.0), 0.0]], dtype=torch.float64)  # p = .8, .2
    loss = elr_losses(logits, torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.25]], dtype=torch.float64), 3.0)
    assert math.isclose(loss.item(), -math.log(0.2) + 3 * math.log(1 - 0.5 * 0.8 - 0.25 * 0.2), rel_tol=1e-9)


def test_the_mixture_splits_known_losses_and_equal_ones_are_clean() -> None:
    rng = np.random.default_rng(0)
    losses = np.r_[rng.normal(0.2, 0.05, 700), rng.normal(3.0, 0.4, 300)]
    clean = clean_probability(losses)
    assert (clean[:700] > 0.99).all() and (clean[700:] < 0.01).all()
    assert clean_probability(np.full(9, 0.7)).tolist() == [1.0] * 9


def test_sharpening_and_mixing_by_hand() -> None:
    assert torch.allclose(sharpen(torch.tensor([[0.6, 0.4]]), 0.5), torch.tensor([[0.36, 0.16]]) / 0.52)
    share, partner = mixing(seed=1, step=3, turn=0, size=50, alpha=4.0, device=torch.device("cpu"))
    assert 0.5 <= share < 1 and sorted(partner.tolist()) == list(range(50))
    again, other = (mixing(1, 3, turn, 50, 4.0, torch.device("cpu")) for turn in (0, 1))
    assert again[0] == share and again[1].tolist() == partner.tolist() and other[1].tolist() != partner.tolist()
    assert mixing(1, 3, 0, 5, 0.0, torch.device("cpu"))[0] == 1.0


def test_mixed_losses_by_hand() -> None:
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]], dtype=torch.float64)  # (.75, .25), (.5, .5)
    targets = torch.tensor([[0.5, 0.5], [1.0, 0.0]], dtype=torch.float64)
    labeled, guessed, penalty = mixed_losses(logits, targets, torch.tensor([True, False]), guess_weight=2.0)
    assert math.isclose(labeled.item(), -0.5 * (math.log(0.75) + math.log(0.25)), rel_tol=1e-9)
    assert math.isclose(guessed.item(), 2.0 * 0.25, rel_tol=1e-9)
    assert math.isclose(penalty.item(), -0.5 * (math.log(2 * 0.625) + math.log(2 * 0.375)), rel_tol=1e-9)
    every, none, _ = mixed_losses(logits, targets, torch.tensor([True, True]), guess_weight=2.0)
    assert none.item() == 0.0 and every.item() > 0.0


def test_a_label_is_changed_where_another_is_more_likely_than_not() -> None:
    probs = np.array([[0.1, 0.9], [0.6, 0.4], [0.45, 0.55]])
    found = relabel(probs, np.array([0, 0, 0]))
    assert found.codes_m.tolist() == [1, 0, 1] and found.p_clean_m.tolist() == [0.1, 0.6, 0.45]
    trusted = relabel(probs, np.array([0, 0, 0]), p_clean_m=np.array([0.9, 0.2, 0.2]))
    assert relabel(probs, np.array([0, 0, 0]), change_above=0.8).codes_m.tolist() == [1, 0, 0]
    assert trusted.codes_m.tolist() == [0, 0, 1], "kept where it is held clean, or where nothing is better"


@pytest.mark.parametrize(("train", "params"), RECIPES, ids=lambda v: getattr(v, "__name__", ""))
def test_a_run_goes_on_from_any_checkpoint_to_the_same_bytes(
    train: Any, params: Any, digits: Any, training_set: Any, recorder: Any
) -> None:
    x, y = digits
    data = training_set(x[:160], y[:160])
    arguments: dict[str, Any] = {"runtime": CPU}
    whole = train(TrainingJob(data, "resnet9:4", Budget(epochs=4), observer=recorder(), **arguments), params)
    seen = recorder(checkpoint_at=(3, 10, 12, 17))
    train(TrainingJob(data, "resnet9:4", Budget(epochs=4), observer=seen, **arguments), params)
    assert len(seen.checkpoints) == 4
    for checkpoint in seen.checkpoints:
        again = train(TrainingJob(data, "resnet9:4", Budget(epochs=4), observer=recorder(), resume=checkpoint, **arguments), params)
        assert all(whole.tensors[n].tobytes() == again.tensors[n].tobytes() for n in whole.tensors)
        assert whole.relabels.codes_m.tobytes() == again.relabels.codes_m.tobytes()
        assert whole.relabels.p_clean_m.tobytes() == again.relabels.p_clean_m.tobytes()


@pytest.mark.parametrize(("train", "params"), RECIPES, ids=lambda v: getattr(v, "__name__", ""))
def test_the_order_of_the_rows_changes_nothing(train: Any, params: Any, digits: Any, training_set: Any, recorder: Any) -> None:
    x, y = digits
    ranks = np.random.default_rng(1).permutation(200)[:120]
    moved = np.random.default_rng(2).permutation(120)
    a, b = (
        train(TrainingJob(training_set(x[p], y[p], ranks=r, n_ranks=200), "resnet9:4", Budget(epochs=3), CPU, recorder()), params)
        for p, r in ((np.arange(120), ranks), (moved, ranks[moved]))
    )  # fmt: skip
    assert all(a.tensors[n].tobytes() == b.tensors[n].tobytes() for n in a.tensors)
    assert a.relabels.codes_m[moved].tolist() == b.relabels.codes_m.tolist()
    assert np.allclose(a.relabels.p_clean_m[moved], b.relabels.p_clean_m, atol=1e-6)


@pytest.fixture(scope="module")
def noisy(digits: Any, training_set: Any, recorder: Any) -> tuple[Any, np.ndarray, float]:
    """1,300 digits of which three in ten are labeled wrongly: the job, which are wrong, and the accuracy without a recipe."""
    x, y = digits
    rng = np.random.default_rng(0)
    wrong = rng.random(1300) < 0.3
    given = np.where(wrong, (y[:1300] + rng.integers(1, 10, 1300)) % 10, y[:1300])
    job = TrainingJob(training_set(x[:1300], given), "resnet9:8", Budget(epochs=14), runtime=CPU, observer=recorder())
    plain = train_standard(job, StandardParams())
    logits = predict(plain.tensors, plain.model, x[1300:], runtime=CPU).logits_nc
    return job, wrong, (logits.argmax(axis=1) == y[1300:]).mean()


@pytest.mark.parametrize(("train", "params"), RECIPES, ids=lambda v: getattr(v, "__name__", ""))
def test_wrong_labels_are_found_corrected_and_not_learned(train: Any, params: Any, noisy: Any, digits: Any, recorder: Any) -> None:
    x, y = digits
    job, wrong, of_plain = noisy
    given = job.data.labels_m
    trained = train(dataclasses.replace(job, observer=recorder()), params)
    new = trained.relabels.codes_m
    changed = new != given
    assert changed.sum() > 0.4 * wrong.sum() and (new[changed] == y[:1300][changed]).mean() > 0.9
    assert np.median(trained.relabels.p_clean_m[wrong]) < 0.5 < np.median(trained.relabels.p_clean_m[~wrong])
    logits = predict(trained.tensors, trained.model, x[1300:], runtime=CPU).logits_nc
    assert (logits.argmax(axis=1) == y[1300:]).mean() > of_plain + 0.05


@pytest.mark.parametrize(("train", "params"), RECIPES, ids=lambda v: getattr(v, "__name__", ""))
@pytest.mark.parametrize("architecture", ["linear", "mlp:16"])
def test_vectors_are_re_labeled_too(train: Any, params: Any, architecture: str, training_set: Any, recorder: Any) -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 600)
    vectors = (6 * np.eye(3, 8)[true] + rng.normal(size=(600, 8))).astype(np.float32)
    wrong = rng.random(600) < 0.25
    given = np.where(wrong, (true + 1) % 3, true)
    data = training_set(vectors, given, n_classes=3)
    trained = train(TrainingJob(data, architecture, Budget(epochs=10), runtime=CPU, observer=recorder()), params)
    changed = trained.relabels.codes_m != given
    assert changed.sum() > 0.3 * wrong.sum()
    assert (trained.relabels.codes_m[changed] == true[changed]).mean() > 0.9


def test_two_networks_begin_from_two_runs_and_need_no_warm_up(digits: Any, training_set: Any, recorder: Any) -> None:
    x, y = digits
    data = training_set(x[:300], y[:300])
    runs = [
        train_standard(TrainingJob(data, "lenet5:4", Budget(epochs=8), Runtime("cpu", seed=seed), recorder()), StandardParams())
        for seed in (1, 2)
    ]
    job = TrainingJob(data, "lenet5:4", Budget(epochs=1), CPU, recorder())
    still = DivideMixParams(lr=0.0)
    both = train_dividemix(dataclasses.replace(job, initial=[r.tensors for r in runs]), still)
    assert all(both.tensors[n].tobytes() == runs[0].tensors[n].tobytes() for n in runs[0].tensors)
    logits = [predict(r.tensors, r.model, data.inputs, runtime=CPU).logits_nc for r in runs]
    mean = sum(np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) for z in logits) / 2
    assert np.allclose(both.relabels.confidence_m, mean.max(axis=1), atol=1e-4)
    moved = [
        train_dividemix(dataclasses.replace(job, initial=[r.tensors for r in runs[:n]]), DivideMixParams(lr=0.01, warmup=w))
        for n, w in ((2, None), (2, 0), (2, 10), (1, None), (1, 10))
    ]  # fmt: skip
    same = [a.tensors["head.weight"].tobytes() == b.tensors["head.weight"].tobytes() for a, b in itertools.pairwise(moved)]
    assert same == [True, False, True, True]
