"""Standard training: it learns, it repeats itself, and the order of the rows and the way of reading change nothing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from prune_cli.core.errors import InputError
from prune_cli.core.params import describe_params
from prune_cli.core.runtime import Runtime
from prune_cli.methods.training.loop.timetable import Budget
from prune_cli.methods.training.networks.predict import Look, predict
from prune_cli.methods.training.recipes.job import TrainingJob
from prune_cli.methods.training.recipes.sgd import StandardParams, train_standard

CPU = Runtime(device="cpu", batch_size=32, workers=1)


@dataclass
class Stream:
    images: np.ndarray

    @property
    def shape(self):
        return self.images.shape

    def take(self, positions):
        return self.images[positions]


def same_bytes(a, b) -> bool:
    return a.tensors.keys() == b.tensors.keys() and all(a.tensors[n].tobytes() == b.tensors[n].tobytes() for n in a.tensors)


@pytest.mark.parametrize(("architecture", "steps"), [("resnet9:8", 120), ("lenet5", 200), ("mlp:64", 200), ("linear", 300)])
def test_it_learns_digits(digits, training_set, recorder, architecture, steps):
    x, y = digits
    trained = train_standard(
        TrainingJob(training_set(x[:1400], y[:1400]), architecture, Budget(steps=steps), runtime=CPU, observer=recorder()), StandardParams()
    )
    logits = predict(trained.tensors, trained.model, x[1400:], runtime=CPU).logits_nc
    assert (logits.argmax(axis=1) == y[1400:]).mean() > 0.9


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_order_of_the_rows_and_the_way_of_reading_change_nothing(digits, training_set, recorder, precision):
    x, y = digits
    n = 300
    runtime = Runtime(device="cpu", batch_size=32, workers=1, precision=precision)

    def run(data):
        return train_standard(TrainingJob(data, "resnet9:4", Budget(epochs=1), runtime=runtime, observer=recorder()), StandardParams())

    ranks = np.random.default_rng(1).permutation(1000)[:n]
    first = run(training_set(x[:n], y[:n], ranks=ranks, n_ranks=1000))
    assert same_bytes(first, run(training_set(x[:n], y[:n], ranks=ranks, n_ranks=1000)))
    shuffled = np.random.default_rng(2).permutation(n)
    assert same_bytes(first, run(training_set(x[shuffled], y[shuffled], ranks=ranks[shuffled], n_ranks=1000)))
    assert same_bytes(first, run(training_set(Stream(x[:n]), y[:n], ranks=ranks, n_ranks=1000)))
    other = run(training_set(x[:n], y[:n], ranks=np.arange(n), n_ranks=1000))
    assert not same_bytes(first, other)


def test_one_step_by_hand(training_set, recorder):
    """Softmax regression on two vectors: one step of SGD with weight decay and Nesterov momentum, from its formula."""
    x = np.array([[1.0, 0.0], [0.0, 2.0]], dtype=np.float32)
    data = training_set(x, np.array([0, 1]), n_classes=2)
    runtime = Runtime(device="cpu", batch_size=2, workers=1)
    params = StandardParams(lr=0.5, weight_decay=0.1, warmup_fraction=0.0, momentum=0.8)
    start = train_standard(TrainingJob(data, "linear", Budget(steps=1), runtime=runtime, observer=recorder()), StandardParams(lr=0.0))
    after = train_standard(TrainingJob(data, "linear", Budget(steps=1), runtime=runtime, observer=recorder()), params)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    w, b = (start.tensors[n].astype(np.float64) for n in ("head.weight", "head.bias"))
    p = np.exp(z @ w.T + b)
    p /= p.sum(axis=1, keepdims=True)
    error = (p - np.eye(2)) / 2
    for tensor, gradient, name in ((w, error.T @ z, "head.weight"), (b, error.sum(axis=0), "head.bias")):
        g = gradient + 0.1 * tensor
        np.testing.assert_allclose(after.tensors[name], tensor - 0.5 * (g + 0.8 * g), rtol=1e-5)


def test_what_is_said_of_the_model(digits, training_set, recorder):
    x, y = digits
    data = training_set(x[:50], y[:50])
    trained = train_standard(TrainingJob(data, "resnet9:2", Budget(steps=2), runtime=CPU, observer=recorder()), StandardParams())
    model = trained.model
    assert (model["architecture"], model["input_size"], model["n_classes"]) == ("resnet9:2", [8, 8, 1], 10)
    assert model["parameters"] == sum(t.size for n, t in trained.tensors.items() if "running" not in n)
    assert model["flops"] > 0 and model["memory_format"] == "channels_last" and model["precision"] in {"float32", "bfloat16"}
    assert model["normalization"]["mean"] == pytest.approx([(x[:50] / 255).mean()])
    assert model["normalization"]["std"] == pytest.approx([(x[:50] / 255).std()])
    assert all(t.dtype == np.float32 and t.flags.c_contiguous for t in trained.tensors.values())


def test_embeddings_take_linear_and_mlp_alone(training_set, recorder):
    x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    data = training_set(x, (x[:, 0] > 0).astype(int), n_classes=2)
    for architecture in ("linear", "mlp:8"):
        trained = train_standard(TrainingJob(data, architecture, Budget(steps=60), runtime=CPU, observer=recorder()), StandardParams())
        found = predict(trained.tensors, trained.model, x, runtime=CPU, look=Look(embeddings=True))
        assert (found.logits_nc.argmax(axis=1) == data.labels_m).mean() > 0.9
        assert found.embeddings_nd.shape == (40, 6 if architecture == "linear" else 8)
    with pytest.raises(InputError, match="use linear or mlp"):
        train_standard(TrainingJob(data, "resnet9:4", Budget(steps=1), runtime=CPU, observer=recorder()), StandardParams())


def test_resized_crops_train(training_set, recorder):
    x = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    data = training_set(x, np.arange(6) % 2, n_classes=2)
    seen = recorder()
    train_standard(TrainingJob(data, "resnet9:2", Budget(epochs=2), runtime=CPU, observer=seen), StandardParams())
    assert len(seen.rows) == 2


def test_parameters_describe_themselves():
    names = [name for name, *_ in describe_params(StandardParams)]
    assert names[:4] == ["lr", "momentum", "nesterov", "weight_decay"]
    assert all(text for *_, text in describe_params(StandardParams))


def test_the_modules_import_nothing_heavy():
    code = (
        "import sys\n"
        "from prune_cli.methods.training.networks import architectures, exchange, forward, predict\n"
        "from prune_cli.methods.training.loop import steps, timetable\n"
        "from prune_cli.methods.training.recipes import dividemix, elr, sgd, sop\n"
        "from prune_cli.methods.structure import shrinking\n"
        "from prune_cli.methods import metrics\n"
        "print([m for m in ('torch', 'torchvision', 'torchmetrics') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.gpu
def test_cuda_repeats_itself_and_agrees_with_the_cpu(digits, training_set, recorder, monkeypatch):
    x, y = digits
    data = training_set(x[:400], y[:400])

    def run(device):
        runtime = Runtime(device=device, batch_size=32, workers=1, precision="float32")
        return train_standard(TrainingJob(data, "resnet9:4", Budget(steps=20), runtime=runtime, observer=recorder()), StandardParams())

    first, again, cpu = run("cuda"), run("cuda"), run("cpu")
    assert same_bytes(first, again)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 0))  # the set stays on the host
    assert same_bytes(first, run("cuda"))
    data = training_set(Stream(x[:400]), y[:400])
    assert same_bytes(first, run("cuda"))
    for name in cpu.tensors:
        np.testing.assert_allclose(first.tensors[name], cpu.tensors[name], atol=0.05)
