"""Augmentation of a whole batch on its device, from draws that are made beforehand: no loop over samples, no state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from prune_cli.core.errors import InputError
from prune_cli.methods.training.data.strong_augment import N_STRONG_DRAWS, strong_augment

if TYPE_CHECKING:
    from torch import Tensor

AugmentName = Literal["auto", "none", "flip", "crop", "crop_flip", "resized_crop", "resized_crop_flip", "strong"]

RESIZED_CROP_SIDE = 64
"""From this side on, ``auto`` crops and resizes; below it, it shifts."""

_ASPECT = 4 / 3  # the widest a resized crop may be against its height, and the other way round


@dataclass(frozen=True)
class Augmentation:
    """What happens to each picture of a batch, by its own draws.

    Args:
        padding: 0, or the most pixels a picture is shifted by in each direction; what comes in is its reflection.
        flip: whether half of the pictures are mirrored left to right.
        min_area: None, or the smallest share of the area that a crop keeps before it is resized to the full size.
        strong: whether `strong_augment` follows, after the shift and the mirror; not with ``min_area``.
    Raises:
        InputError: ``strong`` with ``min_area``.
    """

    padding: int = 0
    flip: bool = False
    min_area: float | None = None
    strong: bool = False

    def __post_init__(self) -> None:
        if self.strong and self.min_area is not None:
            raise InputError("strong augmentation with a resized crop", "leave min_area at None: it shifts the picture")

    @property
    def n_draws(self) -> int:
        """Return how many uniform draws a sample takes.

        Flip, top, left; for a resized crop area and aspect as well, or for ``strong`` the draws of `strong_augment`.
        """
        if self.strong:
            return 3 + N_STRONG_DRAWS
        if self.min_area is not None:
            return 5
        return 3 if self.padding or self.flip else 0


def choose_augmentation(
    name: AugmentName, input_shape: tuple[int, ...], padding: int | None, min_area: float, convolutional: bool
) -> Augmentation:
    """Return the augmentation of that name for pictures of that size.

    ``auto`` is nothing for vectors and for networks without convolutions, whose units each look at one place; a shift
    by up to a sixteenth of the shorter side for pictures under 64 pixels, which is none under 16; a resized crop from
    64 on; and a mirror image for pictures in colour alone, because grey pictures are often glyphs or scans in which
    left and right differ. Colour pictures of glyphs want ``crop``.

    ``strong`` is the shift at any size, the mirror for pictures in colour, RandAugment and Cutout, also for networks
    without convolutions; see `strong_augment`.

    Args:
        input_shape: (H, W, C) or (D,).
        padding: pixels of shift, None for a sixteenth of the shorter side.
    Raises:
        InputError: vectors with anything but ``auto`` or ``none``, ``strong`` on pictures that are neither grey nor RGB, or
            a shift as long as the picture.
    """
    if len(input_shape) == 1:
        if name not in {"auto", "none"}:
            raise InputError(f"augment={name} is for pictures, and the input is vectors", "leave it at auto")
        return Augmentation()
    side = min(input_shape[:2])
    if name == "auto":
        mirrored, small = input_shape[2] == 3, side < RESIZED_CROP_SIDE
        name = ("crop_flip" if small else "resized_crop_flip") if mirrored else ("crop" if small else "resized_crop")
        name = name if convolutional else "none"
    if name == "strong" and input_shape[2] not in {1, 3}:
        raise InputError(f"augment=strong on pictures of {input_shape[2]} channels", "give grey or RGB pictures")
    if padding is not None and padding >= side:
        raise InputError(f"crop_padding={padding} on pictures of side {side}", f"give at most {side - 1}")
    return Augmentation(
        padding=(side // 16 if padding is None else padding) if name in {"crop", "crop_flip", "strong"} else 0,
        flip=name.endswith("flip") or (name == "strong" and input_shape[2] == 3),
        min_area=min_area if name.startswith("resized_crop") else None,
        strong=name == "strong",
    )


def augment(images_bhwc: Tensor, draws_bk: Tensor, augmentation: Augmentation) -> Tensor:
    """Return the augmented batch.

    Args:
        images_bhwc: (B, H, W, C) uint8.
        draws_bk: (B, K) float32, uniform in [0, 1), K = ``augmentation.n_draws``, on the same device.
    Returns:
        (B, H, W, C): uint8, or float32 in 0 to 255 after a resized crop.
    """
    if not augmentation.n_draws:
        return images_bhwc
    if augmentation.min_area is not None:
        return _resized_crop(images_bhwc, draws_bk, augmentation.min_area, augmentation.flip)
    shifted = _shift(images_bhwc, draws_bk, augmentation.padding, augmentation.flip)
    return strong_augment(shifted, draws_bk[:, 3:]) if augmentation.strong else shifted


def _shift(images_bhwc: Tensor, draws_bk: Tensor, padding: int, flip: bool) -> Tensor:
    """Crop the full size at a drawn place of the picture padded by reflection, and mirror: one gather for all of it."""
    import torch

    b, h, w, c = images_bhwc.shape
    device = images_bhwc.device
    row, column = torch.arange(h, device=device), torch.arange(w, device=device)
    columns_bw = column.expand(b, w)
    if flip:
        columns_bw = torch.where(draws_bk[:, :1] < 0.5, w - 1 - columns_bw, columns_bw)
    shifts_b2 = (draws_bk[:, 1:3] * (2 * padding + 1)).long().clamp_(max=2 * padding) - padding
    rows_bh = _reflect(row + shifts_b2[:, :1], h)
    columns_bw = _reflect(columns_bw + shifts_b2[:, 1:], w)
    first_b = torch.arange(0, b * h * w, h * w, device=device)
    source = (first_b[:, None] + rows_bh * w)[:, :, None] + columns_bw[:, None, :]
    return images_bhwc.reshape(b * h * w, c)[source]


def _reflect(index: Tensor, length: int) -> Tensor:
    return length - 1 - (length - 1 - index.abs()).abs()


def _resized_crop(images_bhwc: Tensor, draws_bk: Tensor, min_area: float, flip: bool) -> Tensor:
    """Cut a box of drawn area and aspect at a drawn place and enlarge it bilinearly to the full size."""
    import torch
    import torch.nn.functional as F

    b, h, w, _ = images_bhwc.shape
    area_b = min_area + draws_bk[:, 3] * (1 - min_area)
    aspect_b = torch.exp((2 * draws_bk[:, 4] - 1) * math.log(_ASPECT))
    wide_b = (area_b * aspect_b).sqrt().clamp(max=1)
    high_b = (area_b / aspect_b).sqrt().clamp(max=1)
    top_b, left_b = draws_bk[:, 1] * (1 - high_b), draws_bk[:, 2] * (1 - wide_b)
    y = (torch.arange(h, device=images_bhwc.device) + 0.5) / h
    x = (torch.arange(w, device=images_bhwc.device) + 0.5) / w
    y_bh, x_bw = top_b[:, None] + y * high_b[:, None], left_b[:, None] + x * wide_b[:, None]
    if flip:
        x_bw = torch.where(draws_bk[:, :1] < 0.5, x_bw.flip(1), x_bw)
    grid = torch.stack([x_bw[:, None, :].expand(b, h, w), y_bh[:, :, None].expand(b, h, w)], dim=-1) * 2 - 1
    images = images_bhwc.permute(0, 3, 1, 2).float()
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False).permute(0, 2, 3, 1)
