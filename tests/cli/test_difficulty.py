"""Difficulty scores as commands: one training, records, models, columns, and what goes wrong."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import Prune
from making import png, write
from safetensors.torch import save_file
from warm import WarmCommands

OF_RECORD = "el2n,grand,forgetting,aum,dyn_unc,dual,tdds,loss,margin,entropy,confidence"


def parameters(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(pq.read_schema(path).metadata[b"prune"])["parameters"]
    return found


def fails(prune: Prune, code: int, words: list[str], *arguments: object) -> None:
    message = prune(*arguments, check=code).stderr.decode()
    for word in words:
        assert word in message, message


def test_one_training_gives_every_score_and_the_record_gives_them_again(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    extra = ("--save-dynamics", "d.parquet", "--save-features", "f.parquet")
    prune("score", vectors, "--method", OF_RECORD, "--epochs", 6, *extra, "-o", "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column_names == ["id", "label", *OF_RECORD.split(",")] and len(table) == 60
    assert not (tmp_path / "a.parquet.work").exists()
    prune("score", "--from-dynamics", "d.parquet", "--method", OF_RECORD, "-o", "b.parquet")
    assert pq.read_table(tmp_path / "b.parquet").equals(table)
    prune("score", vectors, "--method", OF_RECORD, "--epochs", 6, "-o", "c.parquet")
    again = pq.read_table(tmp_path / "c.parquet")
    assert again.equals(table)
    stated = parameters(tmp_path / "a.parquet")
    assert stated["el2n"]["epochs_used"] == [1] and stated["el2n"]["mode"] == "eval"
    assert stated["aum"] == {"epochs": None, "epochs_used": [1, 6], "mode": "train", "runs": 1, "source": "training"}
    assert stated["training"]["epochs"] == 6 and stated["training"]["standard"]["momentum"] == 0.9
    features = pq.read_table(tmp_path / "f.parquet")
    assert features.column_names == ["id", "embedding", "prob", "prediction"] and features["id"].equals(table["id"])
    probs = np.array(features["prob"].to_pylist())
    assert probs.sum(axis=1) == pytest.approx(np.ones(60), abs=1e-5)
    assert probs.argmax(axis=1).tolist() == features["prediction"].to_pylist()
    assert probs.max(axis=1) == pytest.approx(table["confidence"].to_numpy(), abs=1e-5)


def test_two_runs_of_one_command_are_the_same_bytes(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        extra = ("--save-dynamics", f"{name}.d.parquet", "--save-features", f"{name}.f.parquet")
        prune("score", vectors, "--method", "aum,el2n", "--epochs", 3, *extra, "-o", f"{name}.parquet")
    for end in ("parquet", "d.parquet", "f.parquet"):
        assert (tmp_path / f"a.{end}").read_bytes() == (tmp_path / f"b.{end}").read_bytes(), end


def test_el2n_alone_stops_after_a_tenth_of_the_schedule(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    done = prune("score", vectors, "--method", "el2n", "--epochs", 30, "-o", "a.parquet", "--json")
    assert json.loads(done.stdout)["epochs"] == 3
    prune("score", vectors, "--method", "el2n,aum", "--epochs", 30, "-o", "b.parquet")
    alone, beside = (pq.read_table(tmp_path / f"{name}.parquet")["el2n"] for name in ("a", "b"))
    assert alone.equals(beside)


def test_runs_are_averaged(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    common = ("score", vectors, "--method", "aum", "--epochs", 2)
    prune(*common, "-o", "one.parquet", "--save-dynamics", "one.d.parquet")
    prune(*common, "-p", "runs=3", "-o", "three.parquet", "--save-dynamics", "three.d.parquet")
    record = pq.read_table(tmp_path / "three.d.parquet").filter(pa.compute.field("mode") == "train")
    margins = record["margin_logit"].to_numpy().reshape(3, 2, 60).astype(np.float64)
    found = pq.read_table(tmp_path / "three.parquet")["aum"].to_numpy()
    assert found == pytest.approx(margins.mean(axis=(0, 1)), abs=1e-9)
    assert margins[0].mean(axis=0) == pytest.approx(pq.read_table(tmp_path / "one.parquet")["aum"].to_numpy())
    assert not np.allclose(margins[0], margins[1])
    assert parameters(tmp_path / "three.parquet")["aum"]["runs"] == 3


def test_pictures_and_the_kernel_beside_a_training(prune: Prune, pictures: Path, tmp_path: Path) -> None:
    methods = "cg,aum,grand,moderate,prototype"
    prune("score", pictures, "--method", methods, "--epochs", 2, "--arch", "resnet9:2", "-p", "grand.variant=last_layer", "-o", "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet").column_names == ["id", "label", *methods.split(",")]
    prune("score", pictures, "--method", "cg", "-o", "cg.parquet")
    assert pq.read_table(tmp_path / "cg.parquet")["cg"].equals(pq.read_table(tmp_path / "a.parquet")["cg"])


def test_a_run_folder_scores_and_its_record_is_one(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    prune("train", vectors, "--epochs", 4, "--save-dynamics", "-o", "run")
    prune("score", "--from-dynamics", "run/dynamics.parquet", "--method", "loss,forgetting", "-o", "a.parquet")
    prune("score", vectors, "--model", "run", "--method", "loss,margin,grand,moderate", "--save-features", "f.parquet", "-o", "b.parquet")
    a, b = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("a", "b"))
    assert a["loss"].to_numpy() == pytest.approx(b["loss"].to_numpy(), abs=1e-5)
    assert (b["grand"].to_numpy() > 0).all() and len(pq.read_table(tmp_path / "f.parquet")) == 60
    fails(prune, 2, ["forgetting watch a training", "leave out --model"], "score", vectors, "--model", "run", "--method", "forgetting")
    assert "dynamics" not in os.listdir(tmp_path / "run")


def test_features_of_strongly_augmented_pictures(prune: Prune, pictures: Path, vectors: Path, tmp_path: Path) -> None:
    prune("train", pictures, "--epochs", 1, "--arch", "resnet9:2", "-o", "run")
    common = ("score", pictures, "--model", "run", "--method", "loss")
    for name, more in (("plain", ()), ("a", ("-p", "augment=strong")), ("b", ("-p", "augment=strong"))):
        prune(*common, *more, "--save-features", f"{name}.f.parquet", "-o", f"{name}.parquet")
    plain, first, second = (pq.read_table(tmp_path / f"{name}.f.parquet") for name in ("plain", "a", "b"))
    assert first.equals(second) and not first["embedding"].equals(plain["embedding"])
    losses = [pq.read_table(tmp_path / f"{name}.parquet")["loss"] for name in ("plain", "a")]
    assert losses[0].equals(losses[1])  # scores are of the pictures as they are
    table = pq.read_table(pictures)
    pq.write_table(table.take(np.arange(40)[::-1]), tmp_path / "turned.parquet")
    prune("score", "turned.parquet", "--model", "run", "--method", "loss", "-p", "augment=strong", "--save-features", "t.f.parquet")
    turned = pq.read_table(tmp_path / "t.f.parquet").take(np.arange(40)[::-1])
    found, wanted = (np.array(t["embedding"].to_pylist()) for t in (turned, first))
    assert found == pytest.approx(wanted, abs=1e-5)
    fails(
        prune,
        2,
        ["is for pictures"],
        "score",
        vectors,
        "--method",
        "aum",
        "--epochs",
        2,
        "-p",
        "augment=strong",
        "--save-features",
        "v.parquet",
    )


def test_probabilities_and_embeddings_of_the_data_need_no_network(prune: Prune, tmp_path: Path) -> None:
    probs = np.random.default_rng(0).dirichlet(np.ones(3), 30)
    labels = np.arange(30) % 3
    vectors = np.random.default_rng(1).normal(size=(30, 4))
    columns = {"id": np.arange(30), "label": labels, "prob": list(probs), "embedding": list(vectors)}
    data = write(tmp_path / "data.parquet", columns)
    done = prune("score", data, "--method", "loss,el2n,margin,entropy,confidence,moderate", "-o", "s.parquet", "--json")
    assert "epochs" not in json.loads(done.stdout)
    table = pq.read_table(tmp_path / "s.parquet")
    assert table["loss"].to_numpy() == pytest.approx(-np.log(probs[np.arange(30), labels]), abs=1e-9)
    assert table["confidence"].to_numpy() == pytest.approx(probs.max(axis=1), abs=1e-12)
    assert parameters(tmp_path / "s.parquet")["loss"]["source"] == "prob"
    assert parameters(tmp_path / "s.parquet")["moderate"]["source"] == "embedding"
    bad = probs.copy()
    bad[3] *= 2
    data = write(tmp_path / "bad.parquet", {**columns, "prob": list(bad)})
    fails(prune, 3, ["1 of 30 rows are bad", "3: "], "score", data, "--method", "loss", "-o", "t.parquet")
    narrow = write(tmp_path / "narrow.parquet", {**columns, "prob": list(probs[:, :2])})
    fails(prune, 2, ["2 numbers a row and the labels have 3 classes"], "score", narrow, "--method", "loss")


def torchvision_weights(classes: int) -> dict[str, torch.Tensor]:
    from torchvision import models

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return models.get_model("squeezenet1_1" if classes == 0 else "resnet18", weights=None, num_classes=classes or 2).state_dict()


def test_torchvision_weights_from_a_file(prune: Prune, pictures: Path, tmp_path: Path) -> None:
    state = torchvision_weights(2)
    save_file(state, tmp_path / "w.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "w.pth")
    common = ("score", pictures, "--model", "torchvision:resnet18", "--image-size", 32, "--method", "confidence")
    for name, weights in (("a", "w.safetensors"), ("b", "w.pth")):
        prune(*common, "--weights", weights, "--save-features", f"{name}.f.parquet", "-o", f"{name}.parquet")
    assert pq.read_table(tmp_path / "a.parquet").equals(pq.read_table(tmp_path / "b.parquet"))
    assert len(pq.read_table(tmp_path / "a.f.parquet")["embedding"][0]) == 512


def test_a_network_of_other_classes_gives_features_alone(prune: Prune, pictures: Path, tmp_path: Path) -> None:
    save_file(torchvision_weights(7), tmp_path / "w.safetensors")
    common = ("score", pictures, "--model", "torchvision:resnet18", "--image-size", 32, "--weights", "w.safetensors")
    prune(*common, "--method", "moderate", "--save-features", "f.parquet", "-o", "a.parquet")
    assert pq.read_table(tmp_path / "f.parquet")["prediction"].type == pa.int64()
    fails(prune, 2, ["tells 7 classes apart and the data has 2"], *common, "--method", "loss", "-o", "b.parquet")


class Trap:
    """Unpickled, it would leave a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("trapped",)


def test_a_pickle_is_refused_and_never_run(prune: Prune, pictures: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "extra": Trap()}, tmp_path / "zip.pth")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Trap()))
    (tmp_path / "text.pth").write_text("weights")
    common = ("score", pictures, "--model", "torchvision:resnet18", "--image-size", 32, "--method", "confidence", "--weights")
    for name in ("zip.pth", "plain.pkl"):
        fails(prune, 2, [f"{name} is a pickle", "refused", "safetensors"], *common, name)
    fails(prune, 2, ["text.pth"], *common, "text.pth")
    fails(prune, 2, ["no.pth does not exist"], *common, "no.pth")
    assert not (tmp_path / "trapped").exists()


def test_a_class_without_a_row_in_the_split_is_told_and_scored_around(prune: Prune, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(40, 4))
    labels = ["cat", "dog"] * 15 + ["owl"] * 10
    data = write(
        tmp_path / "data.parquet",
        {"id": np.arange(40), "label": labels, "embedding": list(values), "split": ["train"] * 30 + ["test"] * 10},
    )
    done = prune("score", data, "--split", "train", "--method", "el2n,aum,moderate", "--epochs", 2, "-o", "s.parquet")
    assert "1 class(es) have no row here: owl" in done.stderr.decode()
    assert len(pq.read_table(tmp_path / "s.parquet")) == 30
    fails(prune, 2, ["samples of 1 class(es)"], "score", data, "--split", "test", "--method", "aum", "-o", "t.parquet")


def test_a_loss_that_is_nan_stops_the_run_by_epoch_and_step(prune: Prune, vectors: Path) -> None:
    fails(prune, 2, ["no longer finite", "step", "epoch"], "score", vectors, "--method", "aum", "--epochs", 3, "-p", "standard.lr=1e30")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "el2n", "-p", "epoch=9", "--epochs", "4"], ["epoch=9 of a training of 4", "--epochs"]),
        (["--method", "el2n,aum", "-p", "fast=1"], ["no method that runs here has a parameter 'fast'", "el2n.epoch"]),
        (["--method", "cg", "--epochs", "3"], ["--epochs is given and nothing here trains"]),
        (["--method", "aum", "--weights", "w"], ["--weights is given without --model"]),
        (["--method", "loss", "--model", "nowhere"], ["nowhere is not a run folder"]),
        (["--method", "aum", "--from-dynamics", "d.parquet"], ["--from-dynamics takes all there is"]),
        (["--method", "forgetting", "--epochs", "1"], ["forgetting needs a record of 2 or more passes"]),
    ],
)
def test_usage(prune: Prune, vectors: Path, arguments: list[str], words: list[str]) -> None:
    fails(prune, 2, words, "score", vectors, *arguments)


def test_what_a_record_cannot_give(prune: Prune, vectors: Path) -> None:
    prune("score", vectors, "--method", "aum", "--epochs", 2, "--save-dynamics", "d.parquet", "-o", "s.parquet")
    fails(prune, 2, ["cg is not taken from a dynamics record"], "score", "--from-dynamics", "d.parquet", "--method", "cg")
    fails(prune, 2, ["--method grand"], "score", "--from-dynamics", "d.parquet", "--method", "grand", "-o", "t.parquet")


def test_data_larger_than_the_memory_limit_is_streamed_to_the_same_scores(prune: Prune, pictures: Path, tmp_path: Path) -> None:
    common = ("score", pictures, "--method", "aum", "--epochs", 2, "--arch", "resnet9:2", "--image-size", 16)
    prune(*common, "-o", "held.parquet")
    prune(*common, "-o", "streamed.parquet", "--memory-limit", "15KB")
    assert pq.read_table(tmp_path / "held.parquet").equals(pq.read_table(tmp_path / "streamed.parquet"))
    assert not list(tmp_path.glob("*.work"))


def test_streamed_pictures_get_the_colors_a_network_was_trained_on(prune: Prune, pictures: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    colored = [png(image) for image in rng.integers(0, 255, (20, 8, 8, 3)).astype(np.uint8)]
    data = write(tmp_path / "colored.parquet", {"image": colored, "label": np.arange(20) % 2})
    prune("train", data, "--arch", "resnet9:2", "--epochs", 1, "-o", "run")
    common = ("score", pictures, "--method", "el2n", "--model", "run")
    prune(*common, "-o", "held.parquet")
    prune(*common, "-o", "streamed.parquet", "--memory-limit", "2KB")
    assert pq.read_table(tmp_path / "held.parquet").equals(pq.read_table(tmp_path / "streamed.parquet"))


def test_augment_without_features_is_an_error(prune: Prune, pictures: Path) -> None:
    fails(prune, 2, ["no features are taken"], "score", pictures, "--method", "aum", "-p", "augment=strong")


def test_features_are_wanted_and_there_are_none(prune: Prune, pictures: Path) -> None:
    fails(prune, 2, ["moderate goes by features", "--model RUN"], "score", pictures, "--method", "moderate")


def test_the_plan_says_what_a_training_takes(prune: Prune, vectors: Path) -> None:
    done = prune("score", vectors, "--method", "el2n", "--plan", "--json", "-p", "runs=2")
    plan = json.loads(done.stdout)["plan"]
    assert (plan["epochs"], plan["epochs_of_schedule"], plan["trainings"]) == (20, 200, 2)
    assert plan["peak_memory_bytes"] > 0 and plan["flops"] > 0


def test_a_killed_scoring_goes_on_from_its_checkpoint(prune: Prune, warm: WarmCommands, vectors: Path, tmp_path: Path) -> None:
    common = ["score", str(vectors), "--method", "aum,forgetting,el2n", "--epochs", "8", "--checkpoint-seconds", "0"]
    prune(*common, "-o", "whole.parquet")
    saved = "prune_cli.stages.train.observer:RunObserver.save_checkpoint"
    process = warm.held(saved, 2, *common, "-o", "killed.parquet", cwd=tmp_path, stderr=subprocess.DEVNULL)
    process.kill()
    process.wait()
    checkpoint = tmp_path / "killed.parquet.work" / "run-0.incomplete" / "checkpoint" / "model.safetensors"
    assert checkpoint.exists() and not (tmp_path / "killed.parquet").exists()
    done = prune(*common, "-o", "killed.parquet")
    assert "goes on from its checkpoint" in done.stderr.decode()
    assert (tmp_path / "killed.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not (tmp_path / "killed.parquet.work").exists()
