"""Scores of a record: worked by hand, and against slow twins that take one sample at a time."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from prune_cli.core.errors import InputError
from prune_cli.core.measures import MEASURES
from prune_cli.methods.scores.record import grand
from prune_cli.methods.scores.record import probabilities as p
from prune_cli.methods.scores.record.aum import AumParams, aum_scores
from prune_cli.methods.scores.record.forgetting import ForgettingParams, forgetting_scores
from prune_cli.methods.scores.record.grand import GrandParams
from prune_cli.methods.scores.record.needs import GradientLook, RecordNeeds, early_epoch
from prune_cli.methods.scores.record.records import ArrayRecord, record_of_probabilities
from prune_cli.methods.scores.record.windowed import DualParams, DynUncParams, TddsParams, dual_scores, dyn_unc_scores, tdds_scores
from prune_cli.methods.training.loop.recording import measure

N, T = 17, 23


def random_record(seed: int = 0, epochs: int = T) -> ArrayRecord:
    rng = np.random.default_rng(seed)
    train = {
        "p_label": rng.random((epochs, N)),
        "margin_logit": rng.normal(size=(epochs, N)),
        "correct": (rng.random((epochs, N)) < 0.5).astype(float),
        "prob_change": rng.random((epochs, N)),
    }
    looks = {e: {name: rng.random(N) for name in (*MEASURES, "gradient_norm")} for e in (early_epoch(epochs), epochs)}
    return ArrayRecord(train, looks)


def test_measures_by_hand() -> None:
    logits = torch.tensor([[math.log(0.5), math.log(0.3), math.log(0.2)]] * 2, dtype=torch.float64)
    found = dict(zip(MEASURES, measure(logits, torch.tensor([0, 2])).numpy(), strict=True))
    wanted = {
        "p_label": [0.5, 0.2],
        "margin_logit": [math.log(0.5 / 0.3), math.log(0.2 / 0.5)],
        "margin_prob": [0.2, -0.3],
        "error_norm": [math.sqrt(0.25 + 0.09 + 0.04), math.sqrt(0.25 + 0.09 + 0.64)],
        "loss": [-math.log(0.5), -math.log(0.2)],
        "correct": [1, 0],
        "entropy": [-(0.5 * math.log(0.5) + 0.3 * math.log(0.3) + 0.2 * math.log(0.2))] * 2,
        "confidence": [0.5, 0.5],
        "top_gap": [0.2, 0.2],
    }
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert found[name] == pytest.approx(values, abs=1e-12), name


def test_of_equal_logits_the_first_counts_as_the_prediction() -> None:
    correct = measure(torch.zeros(2, 3), torch.tensor([0, 1]))[MEASURES.index("correct")]
    assert correct.tolist() == [1.0, 0.0]


def test_two_classes_and_a_thousand() -> None:
    for classes in (2, 1000):
        logits = torch.randn(5, classes, generator=torch.Generator().manual_seed(0))
        assert torch.isfinite(measure(logits, torch.arange(5) % 2)).all()


def test_forgetting_by_hand() -> None:
    #                 never  once  always right  twice  learned at last
    correct = np.array([[0, 1, 1, 1, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 1, 1, 0, 1]])
    found = forgetting_scores(ArrayRecord({"correct": correct}, {}))["forgetting"]
    assert found.tolist() == [4.0, 1.0, 0.0, 2.0, 0.0]


def test_forgetting_is_its_definition() -> None:
    record = random_record()
    wanted = []
    for history in record.train["correct"].T:
        events = sum(1 for before, after in itertools.pairwise(history) if before and not after)
        wanted.append(events if history.any() else T)
    assert forgetting_scores(record)["forgetting"].tolist() == wanted


def test_aum_is_the_mean_of_the_margins_of_logits() -> None:
    record = random_record()
    wanted = [sum(margins) / T for margins in record.train["margin_logit"].T.tolist()]
    assert aum_scores(record)["aum"] == pytest.approx(wanted, abs=1e-12)
    first = [sum(margins[:4]) / 4 for margins in record.train["margin_logit"].T.tolist()]
    assert aum_scores(record, AumParams(epochs=4))["aum"] == pytest.approx(first, abs=1e-12)
    assert AumParams(epochs=4).needs(10).epochs == 4
    with pytest.raises(InputError, match="aum: epochs=11 of a training of 10"):
        AumParams(epochs=11).needs(10)


def slow_windows(series: list[float], window: int) -> list[list[float]]:
    return [series[k : k + window] for k in range(len(series) - window + 1)]


def deviation(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))


@pytest.mark.parametrize(("window", "used"), [(None, 7), (2, 2), (10, 10), (T, T)])
def test_dyn_unc_is_its_definition(window: int | None, used: int) -> None:
    record = random_record()
    wanted = []
    for series in record.train["p_label"].T.tolist():
        found = [deviation(part) for part in slow_windows(series, used)]
        wanted.append(sum(found) / len(found))
    assert dyn_unc_scores(record, DynUncParams(window))["dyn_unc"] == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(("params", "epochs", "window"), [((None, None), T, 7), ((12, None), 12, 4), ((9, 3), 9, 3)])
def test_dual_is_its_definition(params: tuple[int | None, int | None], epochs: int, window: int) -> None:
    record = random_record()
    wanted = []
    for series in record.train["p_label"].T.tolist():
        found = [deviation(w) * (1 - sum(w) / window) for w in slow_windows(series[:epochs], window)]
        wanted.append(sum(found) / len(found))
    assert dual_scores(record, DualParams(*params))["dual"] == pytest.approx(wanted, abs=1e-12)


def test_a_window_of_passes_has_one_change_less() -> None:
    """Changes 1, 3, 1, 5 between five passes; windows of 3 passes have two: (1, 3), (3, 1), (1, 5), norms sqrt 2, sqrt 2, 2 sqrt 2."""
    record = random_record()
    changes = record.train["prob_change"]
    changes[1:5] = np.array([1.0, 3.0, 1.0, 5.0])[:, None]
    found = tdds_scores(record, TddsParams(epochs=5, window=3, decay=0.5))["tdds"]
    by_hand = 0.125 * math.sqrt(2) + 0.25 * math.sqrt(2) + 0.5 * math.sqrt(8)
    assert found == pytest.approx(np.full(len(found), by_hand))


@pytest.mark.parametrize(("epochs", "window", "decay"), [(None, None, 0.9), (12, 3, 0.5), (6, 5, 1.0), (6, 6, 1.0)])
def test_tdds_is_its_definition(epochs: int | None, window: int | None, decay: float) -> None:
    record = random_record()
    used, k = epochs or T, (window or 7) - 1  # changes between the passes of a window
    wanted = []
    for series in record.train["prob_change"].T.tolist():
        norms = [math.sqrt(k) * deviation(w) for w in slow_windows(series[1:used], k)]
        last = len(norms) - 1
        wanted.append(sum(decay * (1 - decay) ** (last - t) * norm for t, norm in enumerate(norms)))
    found = tdds_scores(record, TddsParams(epochs, window, decay))["tdds"]
    assert found == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(
    ("method", "params", "epoch", "column"),
    [
        ("el2n", p.El2nParams(), 2, "error_norm"),
        ("el2n", p.El2nParams(epoch=T), T, "error_norm"),
        ("grand", GrandParams(), 2, "gradient_norm"),
        ("loss", p.LossParams(), T, "loss"),
        ("margin", p.MarginParams(), T, "margin_prob"),
        ("margin", p.MarginParams(of="top"), T, "top_gap"),
        ("entropy", p.EntropyParams(), T, "entropy"),
        ("confidence", p.ConfidenceParams(), T, "confidence"),
        ("confidence", p.ConfidenceParams(of="label"), T, "p_label"),
    ],
)
def test_what_is_read_from_a_look(method: str, params: object, epoch: int, column: str) -> None:
    record = random_record()
    found = getattr(grand if method == "grand" else p, f"{method}_scores")(record, params)[method]
    assert np.array_equal(found, record.evaluations[epoch][column])


def test_probabilities_make_a_record_of_one_look() -> None:
    probs = np.array([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]])
    record = record_of_probabilities(probs, np.array([1, 1]))
    assert (record.n_samples, record.n_epochs, record.eval_epochs) == (2, 0, (0,))
    assert p.el2n_scores(record)["el2n"] == pytest.approx([math.sqrt(0.25 + 0.49 + 0.04), math.sqrt(2)])
    assert p.loss_scores(record)["loss"] == pytest.approx([-math.log(0.3), 87.3], abs=0.05)
    with pytest.raises(InputError, match="forgetting needs a record of 2 or more passes"):
        forgetting_scores(record)


def test_what_each_score_needs_of_a_training() -> None:
    assert p.El2nParams().needs(200) == RecordNeeds("eval", 20, looks=(20,))
    assert GrandParams(epoch=7).needs(20) == RecordNeeds("eval", 7, (7,), gradients=GradientLook(7, "full"))
    assert DualParams().needs(200) == RecordNeeds("train", 30)
    assert TddsParams().needs(200) == RecordNeeds("train", 90, prob_change=True)
    assert TddsParams().needs(20).epochs == 20
    assert ForgettingParams().needs(200) == AumParams().needs(200) == RecordNeeds("train", 200)
    assert p.EntropyParams().needs(200) == RecordNeeds("eval", 200, at_end=True)
    for params in (p.El2nParams(21), DualParams(21), TddsParams(21)):
        with pytest.raises(InputError, match="of a training of 20"):
            params.needs(20)


def test_errors_name_the_cure() -> None:
    record = random_record()
    with pytest.raises(InputError, match=r"el2n is taken after epoch 5, and the record looks after 2, 23[\s\S]*el2n.epoch=2"):
        p.el2n_scores(record, p.El2nParams(epoch=5))
    with pytest.raises(InputError, match="dual needs a record of 40 or more passes"):
        dual_scores(record, DualParams(epochs=40))
    with pytest.raises(InputError, match="dyn_unc needs 24 passes"):
        dyn_unc_scores(record, DynUncParams(window=24))
    bare = ArrayRecord({"p_label": record.train["p_label"]}, {})
    with pytest.raises(InputError, match=r"no 'prob_change' in train mode[\s\S]*--method tdds"):
        tdds_scores(bare)
    with pytest.raises(InputError, match="loss needs a look in eval mode"):
        p.loss_scores(bare)
