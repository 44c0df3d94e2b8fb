"""What training records of each sample: against the network itself, through stops, and when memory runs out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from prune_cli.core.errors import InputError, InterruptedRun
from prune_cli.core.measures import GRADIENT_NORM, MEASURES, PROB_CHANGE
from prune_cli.core.runtime import Runtime
from prune_cli.methods.scores.record.grand import last_layer_gradient_norms
from prune_cli.methods.training.loop.recording import Watch, measure
from prune_cli.methods.training.loop.timetable import Budget
from prune_cli.methods.training.networks.building import build_network
from prune_cli.methods.training.networks.pictures import MultilayerPerceptron
from prune_cli.methods.training.networks.predict import predict
from prune_cli.methods.training.recipes.job import TrainedModel, TrainingJob
from prune_cli.methods.training.recipes.sgd import StandardParams, train_standard


class Sink:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], dict[str, np.ndarray]] = {}

    def on_record(self, mode: str, epoch: int, columns: Mapping[str, np.ndarray]) -> None:
        self.rows[mode, epoch] = dict(columns)


@pytest.fixture
def data(training_set):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    labels = np.arange(50) % 3
    values = (rng.normal(size=(50, 6)) + 2 * np.eye(6)[labels]).astype(np.float32)
    return training_set(values, labels, n_classes=3)


def train(data: Any, observer: Any, watch: Watch | None = None, **more: Any) -> TrainedModel:
    budget, params = more.pop("budget", Budget(epochs=4)), more.pop("params", StandardParams())
    runtime = Runtime(device="cpu", precision="float32", batch_size=more.pop("batch_size", 16))
    return train_standard(
        TrainingJob(data, more.pop("architecture", "mlp:8"), budget, runtime=runtime, observer=observer, watch=watch, **more), params
    )


def said(data: Any, trained: TrainedModel) -> dict[str, np.ndarray]:
    """Return what a trained network says of every sample."""
    logits = predict(trained.tensors, trained.model, data.inputs, runtime=Runtime(device="cpu")).logits_nc
    values = measure(torch.from_numpy(logits), torch.from_numpy(data.labels_m)).numpy()
    return dict(zip(MEASURES, values, strict=True))


@pytest.mark.parametrize("batch_size", [7, 16, 120])
def test_a_network_that_does_not_move_says_the_same_in_every_pass(data, recorder, batch_size: int) -> None:  # type: ignore[no-untyped-def]
    sink = Sink()
    watch = Watch(sink, eval_epochs=frozenset([2]), prob_change=True)
    trained = train(data, recorder(), watch, params=StandardParams(lr=0.0), batch_size=batch_size)
    wanted = said(data, trained)
    assert sorted(sink.rows) == [("eval", 2), ("eval", 4), *(("train", e) for e in (1, 2, 3, 4))]
    for columns in sink.rows.values():
        for name, values in wanted.items():
            assert columns[name] == pytest.approx(values, abs=1e-5), name
    assert PROB_CHANGE not in sink.rows["train", 1]
    assert sink.rows["train", 2][PROB_CHANGE] == pytest.approx(np.zeros(50), abs=1e-5)


def test_a_look_is_that_of_the_network_as_it_is_then(data, recorder) -> None:  # type: ignore[no-untyped-def]
    sink = Sink()
    trained = train(data, recorder(), Watch(sink), architecture="resnet9:2" if data.inputs.ndim == 4 else "mlp:8")
    for name, values in said(data, trained).items():
        assert sink.rows["eval", 4][name] == pytest.approx(values, abs=1e-5), name


def test_how_probabilities_move(data, recorder) -> None:  # type: ignore[no-untyped-def]
    sink = Sink()
    train(data, recorder(), Watch(sink, prob_change=True), budget=Budget(epochs=2), batch_size=50)
    # One step a pass: each pass is presented to one network, so its probabilities are those of a training so long.
    first = train(data, recorder(), budget=Budget(epochs=2), batch_size=50, stop_epoch=1)
    logits = predict(first.tensors, first.model, data.inputs, runtime=Runtime(device="cpu")).logits_nc
    network = build_network("mlp:8", (6,), 3, seed=0)
    mean, std = (np.array(first.model["normalization"][k]) for k in ("mean", "std"))
    start = network(torch.from_numpy(((data.inputs - mean) / std).astype(np.float32))).log_softmax(1).detach().numpy()
    after = torch.from_numpy(logits).log_softmax(1).numpy()
    wanted = np.abs(np.exp(after) * (after - start)).sum(axis=1)
    assert sink.rows["train", 2][PROB_CHANGE] == pytest.approx(wanted, abs=1e-5)


def test_gradient_norms_where_they_are_asked_for(data, recorder) -> None:  # type: ignore[no-untyped-def]
    sink = Sink()
    looks = frozenset([1, 2])
    train(data, recorder(), Watch(sink, looks, gradient_norms=last_layer_gradient_norms, gradient_epochs=frozenset([2])))
    assert GRADIENT_NORM not in sink.rows["eval", 1] and GRADIENT_NORM not in sink.rows["eval", 4]
    assert (sink.rows["eval", 2][GRADIENT_NORM] > 0).all()


@pytest.mark.parametrize("architecture", ["mlp:8", "resnet9:2"])
def test_recording_changes_not_one_bit(digits, training_set, recorder, architecture: str) -> None:  # type: ignore[no-untyped-def]
    images, labels = digits
    inputs = images[:90] if architecture.startswith("resnet") else images[:90].reshape(90, -1).astype(np.float32)
    data = training_set(inputs, labels[:90])
    plain = train(data, recorder(), architecture=architecture)
    watched = train(data, recorder(), Watch(Sink(), frozenset([1, 3]), prob_change=True), architecture=architecture)
    assert plain.tensors.keys() == watched.tensors.keys()
    assert all(np.array_equal(plain.tensors[name], watched.tensors[name]) for name in plain.tensors)


@pytest.mark.parametrize("stop_at", [1, 3, 4, 7])
def test_a_resumed_run_records_the_same(data, recorder, stop_at: int) -> None:  # type: ignore[no-untyped-def]
    whole, parts = Sink(), Sink()
    looks = frozenset([1, 3])
    trained = train(data, recorder(), Watch(whole, looks, prob_change=True))
    stopped = recorder(stop_at=stop_at)
    with pytest.raises(InterruptedRun):
        train(data, stopped, Watch(parts, looks, prob_change=True))
    resumed = train(data, recorder(), Watch(parts, looks, prob_change=True), resume=stopped.checkpoints[-1])
    assert all(np.array_equal(trained.tensors[name], resumed.tensors[name]) for name in trained.tensors)
    assert whole.rows.keys() == parts.rows.keys()
    for key, columns in whole.rows.items():
        for name, values in columns.items():
            assert np.array_equal(values, parts.rows[key][name]), (key, name)


def test_a_run_that_stops_early_is_the_beginning_of_the_whole(data, recorder) -> None:  # type: ignore[no-untyped-def]
    whole, early = Sink(), Sink()
    train(data, recorder(), Watch(whole, frozenset([2])))
    observer = recorder()
    train(data, observer, Watch(early, frozenset([2]), at_end=False), stop_epoch=2)
    assert sorted(early.rows) == [("eval", 2), ("train", 1), ("train", 2)]
    for key, columns in early.rows.items():
        assert all(np.array_equal(values, whole.rows[key][name]) for name, values in columns.items())
    assert [row["epoch"] for row in observer.rows][:2] == [1, 2]


def out_of_memory_above(monkeypatch: pytest.MonkeyPatch, largest: int, kind: type[Exception], words: str) -> None:
    plain = MultilayerPerceptron.features

    def features(self: Any, inputs: torch.Tensor) -> torch.Tensor:
        if len(inputs) > largest:
            raise kind(words)
        return plain(self, inputs)

    monkeypatch.setattr(MultilayerPerceptron, "features", features)


@pytest.mark.parametrize(
    ("kind", "words"), [(torch.OutOfMemoryError, "CUDA out of memory"), (RuntimeError, "DefaultCPUAllocator: can't allocate memory")]
)
def test_without_the_memory_batches_go_in_pieces(data, recorder, monkeypatch, kind, words) -> None:  # type: ignore[no-untyped-def]
    whole, pieces, observer = Sink(), Sink(), recorder()
    wanted = train(data, recorder(), Watch(whole))
    out_of_memory_above(monkeypatch, 5, kind, words)
    found = train(data, observer, Watch(pieces))
    for name, tensor in wanted.tensors.items():
        assert found.tensors[name] == pytest.approx(tensor, abs=1e-5), name
    for key, columns in whole.rows.items():
        assert pieces.rows[key]["loss"] == pytest.approx(columns["loss"], abs=1e-4)
    assert len(observer.notes) == 1 and "in pieces" in observer.notes[0]


def test_no_memory_for_two_samples_is_an_error(data, recorder, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    out_of_memory_above(monkeypatch, 1, torch.OutOfMemoryError, "CUDA out of memory")
    with pytest.raises(InputError, match="the device has not the memory"):
        train(data, recorder())


def test_another_error_goes_through(data, recorder, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    out_of_memory_above(monkeypatch, 5, RuntimeError, "something else")
    with pytest.raises(RuntimeError, match="something else"):
        train(data, recorder())
