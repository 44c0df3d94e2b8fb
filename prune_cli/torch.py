"""Selections in a training loop of your own: a part of a dataset, and a sampler that goes by weights.

    from prune_cli.torch import WeightedSampler, subset

    part = subset(dataset, "kept.parquet", ids=ids)          # ids[i] is the id of dataset[i]
    loader = DataLoader(dataset, sampler=WeightedSampler("kept.parquet", ids=ids), batch_size=128)

This module imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike, fspath
from typing import TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch.utils.data import Dataset, Sampler, Subset

from prune_cli.core.errors import InputError
from prune_cli.core.rng import generator
from prune_cli.io.ids.columns import ID, locate, position_ids
from prune_cli.io.manifests.selection import SELECTED
from prune_cli.io.parquet.tables import ParquetSource

__all__ = ["WeightedSampler", "selected_positions", "subset"]

ItemT = TypeVar("ItemT", covariant=True)
Ids: TypeAlias = Sequence[str] | Sequence[int] | np.ndarray | pa.Array


def subset(dataset: Dataset[ItemT], selection: str | PathLike[str], ids: Ids | None = None) -> Subset[ItemT]:
    """Return the items of a dataset that a selection keeps, in the dataset's order.

    Args:
        dataset: with a length; item i is the row with ``ids[i]``.
        ids: the id of each item; None where the selection was made from data without ids, whose ids are positions.
    Raises:
        InputError: an id of the selection that no item has, or as many ids as there are no items.
    """
    size = len(dataset)  # type: ignore[arg-type]
    if ids is not None and len(ids) != size:
        raise InputError(f"{len(ids)} ids are given for {size} items", "give one id an item, in their order")
    return Subset(dataset, selected_positions(selection, ids, size)[0].tolist())


def selected_positions(selection: str | PathLike[str], ids: Ids | None, size: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of what a selection keeps, ascending, and their weights.

    Args:
        ids: the id of each item, or None for positions.
        size: number of items, where ``ids`` is None.
    Returns:
        (K,) int64 positions and (K,) float64 weights, 1 where the selection weighs nothing.
    Raises:
        InputError: as `subset`.
    """
    source = ParquetSource(fspath(selection))
    source.require(ID)
    there = [name for name in (SELECTED, "weight") if name in source.schema.names]
    table = source.read([ID, *there])
    if SELECTED in there:
        table = table.filter(table.column(SELECTED))
    wanted = table.column(ID).combine_chunks()
    if ids is None:
        if not pa.types.is_string(wanted.type) or not pc.all(pc.match_substring_regex(wanted, "^row-[0-9]+$")).as_py():
            raise InputError(
                f"the ids of {source.location} are not positions, as {wanted[0].as_py()!r}", "say which item has which id: ids=[...]"
            )
        last = pc.max(pc.cast(pc.utf8_slice_codeunits(wanted, 4), pa.int64())).as_py()
        known = position_ids(size if size is not None else last + 1)
    else:
        known = ids if isinstance(ids, pa.Array) else pa.array(ids)
    positions = locate(wanted, known, source.location, "the dataset")
    weights = np.ones(len(positions))
    if "weight" in there:
        weights = table.column("weight").combine_chunks().cast(pa.float64()).fill_null(1.0).to_numpy(zero_copy_only=False)
    order = np.argsort(positions, kind="stable")
    return positions[order], weights[order]


class WeightedSampler(Sampler[int]):
    """Draws what a selection keeps, each as often as its weight says, anew every epoch.

    Without weights every kept item comes once an epoch, shuffled; with weights items are drawn with replacement. The same seed and
    epoch give the same draws, whatever else is random; call ``set_epoch`` as with a distributed sampler, or epochs count themselves.

    Args:
        selection: a selection manifest.
        ids: the id of each item; None for positions.
        n_samples: draws of an epoch; None for as many as are kept.
        seed: 0 or more.
    """

    def __init__(self, selection: str | PathLike[str], ids: Ids | None = None, *, n_samples: int | None = None, seed: int = 0) -> None:
        self._positions, weights = selected_positions(selection, ids)
        if (weights < 0).any() or not weights.sum() > 0:
            raise InputError(f"{fspath(selection)} has weights below 0, or none above it", "check the column 'weight'")
        self._share = weights / weights.sum()
        self._alike = bool((weights == weights[0]).all())
        self._n_samples = len(self._positions) if n_samples is None else n_samples
        self._seed, self.epoch = seed, 0

    def __len__(self) -> int:
        return self._n_samples

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next pass is."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        draw = generator(self._seed, "weighted sampler", self.epoch)
        self.epoch += 1
        if self._alike and self._n_samples <= len(self._positions):
            chosen = draw.permutation(len(self._positions))[: self._n_samples]
        else:
            chosen = draw.choice(len(self._positions), self._n_samples, p=self._share)
        yield from self._positions[chosen].tolist()
