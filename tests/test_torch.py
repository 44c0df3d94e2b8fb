"""Selections in a loop of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from making import write
from torch.utils.data import DataLoader, TensorDataset

from prune_cli.core.errors import InputError
from prune_cli.torch import WeightedSampler, subset

DATA = TensorDataset(torch.arange(6) * 10)
IDS = list("fedcba")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return write(tmp_path / "kept.parquet", {"id": list("abcdef"), "selected": [True, False, True, True, False, False]})


def test_a_subset_is_what_is_kept_in_the_datasets_order(kept: Path) -> None:
    assert [int(item[0]) for item in subset(DATA, kept, ids=IDS)] == [20, 30, 50]
    assert [int(item[0]) for item in subset(DATA, kept, ids=np.array(IDS))] == [20, 30, 50]


def test_ids_that_are_positions_need_no_list(tmp_path: Path) -> None:
    ids = [f"row-{i:08d}" for i in (5, 1, 3)]
    write(tmp_path / "s.parquet", {"id": ids, "selected": [True, True, False]})
    assert [int(item[0]) for item in subset(DATA, tmp_path / "s.parquet")] == [10, 50]
    assert sorted(WeightedSampler(tmp_path / "s.parquet")) == [1, 5]


def test_what_does_not_fit_is_refused(kept: Path) -> None:
    with pytest.raises(InputError, match="not positions"):
        subset(DATA, kept)
    with pytest.raises(InputError, match="5 ids are given for 6 items"):
        subset(DATA, kept, ids=IDS[:5])
    with pytest.raises(InputError, match="not in the dataset"):
        subset(DATA, kept, ids=list("uvwxyz"))


def test_without_weights_each_comes_once_shuffled_anew_every_epoch(kept: Path) -> None:
    sampler = WeightedSampler(kept, ids=IDS, seed=1)
    epochs = [list(sampler) for _ in range(20)]
    assert len(sampler) == 3 and all(sorted(e) == [2, 3, 5] for e in epochs) and len({tuple(e) for e in epochs}) > 1
    sampler.set_epoch(4)
    assert list(sampler) == epochs[4] == list(_at(WeightedSampler(kept, ids=IDS, seed=1), 4))
    loader = DataLoader(DATA, sampler=sampler, batch_size=2)
    assert sorted(torch.cat([batch[0] for batch in loader]).tolist()) == [20, 30, 50]


def _at(sampler: WeightedSampler, epoch: int) -> WeightedSampler:
    sampler.set_epoch(epoch)
    return sampler


def test_with_weights_each_comes_as_often_as_it_weighs(tmp_path: Path) -> None:
    columns = {"id": list("abcdef"), "selected": [True] * 4 + [False] * 2, "weight": [1.0, 2.0, 0.0, 5.0, 9.0, None]}
    write(tmp_path / "w.parquet", columns)
    state = torch.get_rng_state()
    sampler = WeightedSampler(tmp_path / "w.parquet", ids=IDS, n_samples=8000)
    counts = np.bincount(list(sampler), minlength=6)
    assert counts[[5, 4, 3, 2]] == pytest.approx([1000, 2000, 0, 5000], abs=150) and counts.sum() == len(sampler)
    assert torch.equal(torch.get_rng_state(), state)
    write(tmp_path / "z.parquet", {"id": ["a"], "weight": [0.0]})
    with pytest.raises(InputError, match="weights"):
        WeightedSampler(tmp_path / "z.parquet", ids=IDS)
