"""The loop: the order of samples, the cut into steps, the learning rate, history, stopping and going on."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from prune_cli.core.errors import InputError, InterruptedRun, NumericalError
from prune_cli.core.rng import generator
from prune_cli.core.runtime import Runtime
from prune_cli.methods.training.data.augment import Augmentation, augment
from prune_cli.methods.training.loop.timetable import Budget, SampleStream, Schedule, plan_steps
from prune_cli.methods.training.recipes.job import TrainingJob
from prune_cli.methods.training.recipes.sgd import StandardParams, train_standard

CPU = Runtime(device="cpu", batch_size=8, workers=1)
PARAMS = StandardParams()


def vectors(m: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(m, 3)).astype(np.float32)


# --- the cut into steps


@pytest.mark.parametrize("budget", [{}, {"epochs": 1, "steps": 1}, {"epochs": 0}, {"steps": -2}])
def test_a_budget_is_one_of_two(budget):
    with pytest.raises(InputError, match="budget"):
        Budget(**budget)


def test_steps_have_exactly_the_batch_size():
    plan = plan_steps(Budget(steps=5), n_selected=3, batch_size=4)
    assert [plan.bounds(s) for s in range(5)] == [(0, 4), (4, 8), (8, 12), (12, 16), (16, 20)]


@pytest.mark.parametrize(("epochs", "n", "size"), [(1, 100, 128), (3, 129, 128), (2, 1000, 7), (1, 3, 2), (1, 2, 2), (5, 7, 3)])
def test_epochs_are_cut_evenly(epochs, n, size):
    plan = plan_steps(Budget(epochs=epochs), n, size)
    bounds = [plan.bounds(s) for s in range(plan.n_steps)]
    sizes = [b - a for a, b in bounds]
    assert bounds[0][0] == 0 and bounds[-1][1] == epochs * n
    assert all(bounds[i][1] == bounds[i + 1][0] for i in range(len(bounds) - 1))
    assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 2
    if n > 3:
        assert plan.n_steps == math.ceil(epochs * n / size)


def test_a_batch_of_one_is_refused():
    with pytest.raises(InputError, match="--batch-size 2"):
        plan_steps(Budget(steps=5), n_selected=3, batch_size=1)


# --- the order of samples


def test_a_pass_is_the_named_permutation_of_the_ranks(training_set):
    ranks = np.array([2, 0, 1, 3])
    data = training_set(vectors(4), np.arange(4) % 2, ranks=ranks)
    stream = SampleStream(data, seed=5, n_draws=0)
    for number in range(3):
        expected = [int(np.flatnonzero(ranks == r)[0]) for r in generator(5, "order", number).permutation(4)]
        batch = stream.batch(4 * number, 4 * number + 4)
        assert batch.positions.tolist() == expected and batch.passes.tolist() == [number] * 4


def test_draws_are_those_of_the_rank_and_the_pass(training_set):
    ranks = np.array([2, 0, 3])
    stream = SampleStream(training_set(vectors(3), np.arange(3) % 2, ranks=ranks, n_ranks=5), seed=5, n_draws=2)
    for number in range(2):
        batch = stream.batch(3 * number, 3 * number + 3)
        draws = generator(5, "augment", number).random((5, 2), dtype=np.float32)
        np.testing.assert_array_equal(batch.draws, draws[ranks[batch.positions]])


def test_two_selections_share_order_and_draws(training_set):
    x = vectors(50)
    chosen = np.flatnonzero(np.random.default_rng(1).random(50) < 0.4)
    full = SampleStream(training_set(x, np.arange(50) % 2), 0, n_draws=3)
    part = SampleStream(training_set(x[chosen], chosen % 2, ranks=chosen, n_ranks=50), 0, n_draws=3)
    for number in range(3):
        everything = full.batch(50 * number, 50 * number + 50)
        selected = part.batch(len(chosen) * number, len(chosen) * (number + 1))
        mask = np.isin(everything.positions, chosen)
        np.testing.assert_array_equal(chosen[selected.positions], everything.positions[mask])
        np.testing.assert_array_equal(selected.draws, everything.draws[mask])


def test_every_sample_once_a_pass_and_batches_span_passes(training_set):
    stream = SampleStream(training_set(vectors(5), np.arange(5) % 2), 0, n_draws=2)
    batch = stream.batch(3, 17)
    assert batch.passes.tolist() == [0] * 2 + [1] * 5 + [2] * 5 + [3] * 2
    assert sorted(batch.positions[2:7]) == sorted(batch.positions[7:12]) == list(range(5))
    again = SampleStream(training_set(vectors(5), np.arange(5) % 2), 0, n_draws=2)
    pieces = [again.batch(a, b) for a, b in ((3, 4), (4, 11), (11, 17))]
    np.testing.assert_array_equal(np.concatenate([p.positions for p in pieces]), batch.positions)
    np.testing.assert_array_equal(np.concatenate([p.draws for p in pieces]), batch.draws)
    assert batch.draws.shape == (14, 2) and batch.draws.dtype == np.float32


# --- the learning rate


def test_schedule_by_hand():
    cosine = Schedule(peak=0.8, n_steps=6, n_warmup=2, final_fraction=0.0, cosine=True)
    half = math.sqrt(0.5)
    expected = [0.8 / 3, 1.6 / 3, 0.8, 0.4 * (1 + half), 0.4, 0.4 * (1 - half)]
    assert [cosine.rate(s) for s in range(6)] == pytest.approx(expected)
    ends_at = Schedule(peak=1.0, n_steps=4, n_warmup=0, final_fraction=0.5, cosine=True)
    assert [ends_at.rate(s) for s in range(4)] == pytest.approx([1.0, 0.5 + 0.25 * (1 + half), 0.75, 0.5 + 0.25 * (1 - half)])
    constant = Schedule(peak=0.3, n_steps=3, n_warmup=1, final_fraction=0.0, cosine=False)
    assert [constant.rate(s) for s in range(3)] == pytest.approx([0.15, 0.3, 0.3])


# --- what an observer hears


def test_history_has_a_row_a_pass_and_one_for_the_rest(training_set, recorder):
    data = training_set(vectors(20), np.arange(20) % 2, n_classes=2)
    seen = recorder()
    train_standard(TrainingJob(data, "linear", Budget(steps=6), runtime=CPU, observer=seen), StandardParams(lr=0.1))
    assert [(r["epoch"], r["step"], r["samples"]) for r in seen.rows] == [(1, 3, 20), (2, 5, 40), (3, 6, 48)]
    assert seen.steps == [(s, 6, 8 * s) for s in range(1, 7)]
    assert all(0 <= r["train_accuracy"] <= 1 and r["train_loss"] > 0 for r in seen.rows)
    assert seen.facts[0] == {} and seen.facts[-1].keys() == {"loss", "accuracy", "lr"}


def test_history_is_the_mean_over_each_pass(training_set, recorder):
    """With a rate of 0 the network stays as it was, so every pass has the loss and accuracy of that network."""
    x, y = vectors(21), np.arange(21) % 3
    data = training_set(x, y, n_classes=3)
    seen = recorder()
    params = StandardParams(lr=0.0, label_smoothing=0.2)
    trained = train_standard(TrainingJob(data, "linear", Budget(epochs=3), runtime=CPU, observer=seen), params)
    z = (x - x.mean(axis=0)) / x.std(axis=0) @ trained.tensors["head.weight"].T + trained.tensors["head.bias"]
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    target = np.eye(3)[y] * 0.8 + 0.2 / 3
    loss, accuracy = -(target * log_p).sum(axis=1).mean(), (z.argmax(axis=1) == y).mean()
    assert len(seen.rows) == 3
    for row in seen.rows:
        assert row["train_loss"] == pytest.approx(loss, rel=1e-5)
        assert row["train_accuracy"] == pytest.approx(accuracy)


def test_the_network_sees_augmented_pictures(training_set, recorder):
    """As above, on pictures that are shifted and mirrored by the draws of the stream."""
    x = np.random.default_rng(0).integers(0, 256, (12, 6, 6, 3), dtype=np.uint8)
    data = training_set(x, np.arange(12) % 3, n_classes=3)
    seen = recorder()
    params = StandardParams(lr=0.0, augment="crop_flip", crop_padding=2)
    trained = train_standard(TrainingJob(data, "linear", Budget(epochs=2), runtime=CPU, observer=seen), params)
    stream = SampleStream(data, CPU.seed, n_draws=3)
    mean, std = (np.array(trained.model["normalization"][key]) * 255 for key in ("mean", "std"))
    for number, row in enumerate(seen.rows):
        batch = stream.batch(12 * number, 12 * number + 12)
        images = augment(torch.from_numpy(x[batch.positions]), torch.from_numpy(batch.draws), Augmentation(2, True))
        z = ((images.numpy() - mean) / std).transpose(0, 3, 1, 2).reshape(12, -1)
        z = z @ trained.tensors["head.weight"].T + trained.tensors["head.bias"]
        log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        assert row["train_loss"] == pytest.approx(-log_p[np.arange(12), data.labels_m[batch.positions]].mean(), rel=1e-5)


def test_a_batch_larger_than_the_selection_spans_passes(training_set, recorder):
    seen = recorder()
    data = training_set(vectors(3), np.arange(3) % 2, n_classes=2)
    train_standard(TrainingJob(data, "linear", Budget(steps=3), runtime=CPU, observer=seen), StandardParams())
    assert [(r["epoch"], r["step"], r["samples"]) for r in seen.rows] == [
        *[(e, 1, 3 * e) for e in (1, 2)],
        *[(e, 2, 3 * e) for e in (3, 4, 5)],
        *[(e, 3, 3 * e) for e in (6, 7, 8)],
    ]


# --- stopping and going on


@pytest.mark.parametrize(
    ("architecture", "steps", "stop_at"),
    [
        *[("resnet9:4", 24, stop_at) for stop_at in (1, 5, 6, 22)],  # a pass ends within the sixth step
        *[("torchvision:mobilenet_v3_small", 4, stop_at) for stop_at in (1, 3)],  # with dropout
    ],
)
def test_a_stopped_run_goes_on_to_the_same_bytes(digits, training_set, recorder, architecture, steps, stop_at):
    x, y = digits
    if architecture.startswith("torchvision"):
        x = x.repeat(4, axis=1).repeat(4, axis=2)
    data = training_set(x[:41], y[:41])
    runtime = Runtime(device="cpu", batch_size=8, workers=1, seed=3)

    def run(seen, resume=None):
        return train_standard(
            TrainingJob(data, architecture, Budget(steps=steps), runtime=runtime, observer=seen, resume=resume), StandardParams()
        )

    whole = recorder()
    expected = run(whole)
    first = recorder(stop_at=stop_at)
    with pytest.raises(InterruptedRun, match=f"after step {stop_at} of {steps}"):
        run(first)
    assert len(first.steps) == stop_at and len(first.checkpoints) == 1
    second = recorder()
    resumed = run(second, first.checkpoints[0])
    assert resumed.model == expected.model
    assert resumed.tensors.keys() == expected.tensors.keys()
    for name, tensor in expected.tensors.items():
        assert resumed.tensors[name].tobytes() == tensor.tobytes(), name
    assert first.rows + second.rows == whole.rows
    assert first.steps + second.steps == whole.steps


def test_checkpoints_change_nothing_and_a_finished_one_resumes(training_set, recorder):
    data = training_set(vectors(20), np.arange(20) % 2, n_classes=2)

    def train(**more):
        return train_standard(TrainingJob(data, "mlp:4", Budget(steps=9), runtime=CPU, **more), StandardParams())

    plain = train(observer=recorder())
    seen = recorder(checkpoint_at=(2, 3, 8, 9))
    kept = train(observer=seen)
    assert [c.state["step"] for c in seen.checkpoints] == [2, 3, 8]
    for checkpoint in seen.checkpoints:
        again = train(observer=recorder(), resume=checkpoint)
        for name in plain.tensors:
            assert plain.tensors[name].tobytes() == kept.tensors[name].tobytes() == again.tensors[name].tobytes()


def test_a_checkpoint_of_another_run_is_refused(training_set, recorder):
    x, y = vectors(20), np.arange(20) % 2
    data = training_set(x, y, n_classes=2)
    seen = recorder(stop_at=2)
    with pytest.raises(InterruptedRun):
        train_standard(TrainingJob(data, "mlp:4", Budget(steps=9), runtime=CPU, observer=seen), StandardParams())

    def resume(data=data, architecture="mlp:4", params=PARAMS, runtime=CPU):
        train_standard(
            TrainingJob(data, architecture, Budget(steps=9), runtime=runtime, observer=recorder(), resume=seen.checkpoints[0]), params
        )

    resume()
    with pytest.raises(InputError, match=r"another run: architecture \(then mlp:4, now mlp:5\)"):
        resume(architecture="mlp:5")
    with pytest.raises(InputError, match="params"):
        resume(params=StandardParams(lr=0.3))
    with pytest.raises(InputError, match="seed"):
        resume(runtime=Runtime(device="cpu", batch_size=8, workers=1, seed=1))
    with pytest.raises(InputError, match="data"):
        resume(data=training_set(x, 1 - y, n_classes=2))


def test_a_loss_that_is_not_finite_is_named_and_the_last_checkpoint_is_good(training_set, recorder):
    x = vectors(20) * 100
    data = training_set(x, np.arange(20) % 2, n_classes=2)
    seen = recorder(checkpoint_at=tuple(range(60)))
    params = StandardParams(lr=1e20, warmup_fraction=0.5)
    with pytest.raises(NumericalError, match=r"step \d+ \(epoch \d+\)"):
        train_standard(TrainingJob(data, "mlp:8", Budget(steps=60), runtime=CPU, observer=seen), params)
    assert all(np.isfinite(t).all() for c in seen.checkpoints for t in c.tensors.values())


def test_a_loss_that_is_not_finite_names_its_step_and_epoch(training_set, recorder):
    data = training_set(vectors(4), np.arange(4) % 2, n_classes=2)
    params = StandardParams(lr=3e38, warmup_fraction=0.0)  # the first update is already out of bounds
    with pytest.raises(NumericalError, match=r"step 2 \(epoch 3\)") as caught:
        train_standard(TrainingJob(data, "linear", Budget(steps=9), runtime=CPU, observer=recorder()), params)
    assert "lower the learning rate" in str(caught.value)


def test_weights_that_are_not_finite_are_never_a_checkpoint(training_set, recorder):
    data = training_set(vectors(4), np.arange(4) % 2, n_classes=2)
    params = StandardParams(lr=1e60, warmup_fraction=0.0)  # the first loss is finite, the weights after it are not
    seen = recorder(checkpoint_at=(1,))
    with pytest.raises(NumericalError, match=r"weight .* after step 1 \(epoch 3\)"):
        train_standard(TrainingJob(data, "linear", Budget(steps=2), runtime=CPU, observer=seen), params)
    assert seen.checkpoints == []
    with pytest.raises(NumericalError, match=r"weight .* after step 1"):
        train_standard(TrainingJob(data, "linear", Budget(steps=1), runtime=CPU, observer=seen), params)


@pytest.mark.parametrize("architecture", ["resnet9:2", "torchvision:mobilenet_v3_small"])
def test_torch_and_numpy_state_are_left_alone(digits, training_set, recorder, architecture):
    x, y = digits[0][:16].repeat(4, axis=1).repeat(4, axis=2), digits[1][:16]
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    train_standard(TrainingJob(training_set(x, y), architecture, Budget(steps=1), runtime=CPU, observer=recorder()), PARAMS)
    assert torch.equal(torch_state, torch.get_rng_state())
    np.testing.assert_array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002


# --- beginning from a network that is trained already


def test_training_begins_from_given_weights(training_set, recorder):
    data = training_set(vectors(20), np.arange(20) % 2, n_classes=2)
    first = train_standard(TrainingJob(data, "mlp:4", Budget(steps=30), CPU, recorder()), StandardParams())
    still = TrainingJob(data, "mlp:4", Budget(steps=3), CPU, recorder(), initial=[first.tensors])
    after = train_standard(still, StandardParams(lr=0.0))
    assert all(after.tensors[n].tobytes() == first.tensors[n].tobytes() for n in first.tensors)
    other = train_standard(dataclasses.replace(still, initial=()), StandardParams(lr=0.0))
    assert any(other.tensors[n].tobytes() != first.tensors[n].tobytes() for n in first.tensors)


def test_first_weights_that_do_not_fit_are_refused(training_set, recorder):
    data = training_set(vectors(20), np.arange(20) % 2, n_classes=2)
    job = TrainingJob(data, "mlp:4", Budget(steps=3), CPU, recorder())
    first = train_standard(job, StandardParams())
    with pytest.raises(InputError, match="for 2 networks, and standard trains 1"):
        train_standard(dataclasses.replace(job, initial=[first.tensors, first.tensors]), StandardParams())
    with pytest.raises(InputError, match="do not fit the architecture"):
        train_standard(dataclasses.replace(job, architecture="mlp:5", initial=[first.tensors]), StandardParams())


def test_a_checkpoint_of_a_run_that_began_elsewhere_is_refused(training_set, recorder):
    data = training_set(vectors(20), np.arange(20) % 2, n_classes=2)
    job = TrainingJob(data, "mlp:4", Budget(steps=6), CPU, recorder())
    first = train_standard(job, StandardParams())
    seen = recorder(checkpoint_at=(3,))
    whole = train_standard(dataclasses.replace(job, observer=seen, initial=[first.tensors]), StandardParams())
    resumed = dataclasses.replace(job, observer=recorder(), resume=seen.checkpoints[0])
    with pytest.raises(InputError, match="initial"):
        train_standard(resumed, StandardParams())
    again = train_standard(dataclasses.replace(resumed, initial=[first.tensors]), StandardParams())
    assert all(again.tensors[n].tobytes() == whole.tensors[n].tobytes() for n in whole.tensors)
