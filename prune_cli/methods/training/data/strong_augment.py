"""Strong augmentation of a whole batch from draws made beforehand: RandAugment, then Cutout; no loop over samples."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SIGNED = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "contrast", "sharpness", "saturation")
"""The operations that go either way, in the order of the draws; ``saturation`` for pictures in colour alone."""

UNSIGNED = ("posterize", "solarize", "auto_contrast", "equalize", "identity")
"""The operations that go one way, drawn after the signed ones."""

N_ROUNDS = 2
"""Operations a picture goes through, one after the other."""

N_STRONG_DRAWS = 2 * N_ROUNDS + 2
"""Uniform draws a sample takes: operation and sign of each round, then row and column of the square's centre."""

GREY = 128
"""What comes in from outside the picture, and what the square is filled with."""

# Magnitude 9 of 30, of the widest that torchvision's RandAugment goes.
_SHEAR = 0.3 * 9 / 30  # pixels a row, or a column
_TRANSLATE = 150 * 9 // 30  # 331ths of the side
_ROTATE = 30.0 * 9 / 30  # degrees
_ENHANCE = 90 * 9 // 30  # percent; brightness, contrast, sharpness, saturation: a factor of 1 +- this
_POSTERIZE = 8 - round(4 * 9 / 30)  # bits kept
_SOLARIZE = 255 * (1 - 9 / 30)  # inverted from here on


def strong_augment(images_bhwc: Tensor, draws_bk: Tensor) -> Tensor:
    """Return the pictures after two operations of RandAugment and a Cutout square.

    Each picture goes through `rand_augment` with draws 0 to 3 and `cutout` with draws 4 and 5, so that its result
    depends on its own pixels and draws and never on the batch it stands in. Shift and mirror come before, in
    `prune_cli.methods.training.data.augment.augment`.

    Args:
        images_bhwc: (B, H, W, C) uint8, C = 1 or 3; left as they are.
        draws_bk: (B, 6) float32, uniform in [0, 1), on the same device: operation, sign, operation, sign, row, column.
    Returns:
        (B, H, W, C) uint8, contiguous.
    Cost:
        Linear in the pixels; 14 groups at most whatever B is, and one wait for the device.
    Source:
        Cubuk, Zoph, Shlens, Le, NeurIPS 2020, arXiv:1909.13719; DeVries, Taylor, arXiv:1708.04552. Deviations: see
        `rand_augment` and `cutout`.
    """
    return cutout(rand_augment(images_bhwc, draws_bk[:, : 2 * N_ROUNDS]), draws_bk[:, 2 * N_ROUNDS :])


def operations(n_channels: int) -> tuple[str, ...]:
    """Return the names of the operations that apply, in the order of the draws: 14 in colour, 13 in grey.

    Saturation means nothing in grey, so it is not among the operations drawn from and no round is lost on it.
    """
    return tuple(name for name in SIGNED if n_channels == 3 or name != "saturation") + UNSIGNED


def rand_augment(images_bhwc: Tensor, draws_bk: Tensor) -> Tensor:
    """Return the pictures after two operations, each drawn evenly from `operations` and, if signed, to either side.

    Shear by 0.09, about the upper left corner; translate by 45 / 331 of the side, rounded down; rotate by 9 degrees;
    brightness, contrast, sharpness, saturation times 1 + 0.27 or 1 - 0.27; posterize to 7 bits; solarize from 178.5 on.
    In each round the pictures are grouped by what is done with them, whatever the operation: those whose pixels move
    (one gather, from where torchvision takes each pixel), those whose values are looked up (in what torchvision makes of
    all 256), and one group each for what depends on the whole picture. torchvision does auto-contrast and equalize;
    contrast, sharpness and saturation are done here on whole numbers and rounded down: as torchvision does it, a blend that
    is a whole number falls to either side of it by where the picture lies in memory, so that it would depend on the batch.
    Where the blend is not a whole number, the results are torchvision's.

    Args:
        images_bhwc: (B, H, W, C) uint8, C = 1 or 3; left as they are.
        draws_bk: (B, 4) float32, uniform in [0, 1), on the same device: operation, sign, operation, sign. The i-th of n
            operations is the draws from i / n to (i + 1) / n; a sign is minus below 0.5.
    Returns:
        (B, H, W, C) uint8, contiguous.
    Cost:
        Linear in the pixels; 7 groups a round at most, and one wait for the device, to learn how large they are.
    Source:
        Cubuk, Zoph, Shlens, Le, NeurIPS 2020, arXiv:1909.13719: its 14 operations, N = 2, M = 9, one magnitude for
        all, with the ranges, signs and nearest-pixel sampling of torchvision's RandAugment with 31 bins. Deviations:
        what comes in is grey (128), as in the authors' code and unlike torchvision, where it is black; grey pictures
        draw from 13 operations.
    """
    import torch

    names = operations(images_bhwc.shape[3])
    family_g, row_g = _places(names, draws_bk.device)
    choice_br = (draws_bk[:, 0::2] * len(names)).long()  # the greatest draw times n is below n in float32 too
    place_br = 2 * choice_br + (draws_bk[:, 1::2] < 0.5)
    family_br, row_br = family_g[place_br], row_g[place_br]
    members_br = family_br.argsort(dim=0)
    sizes_rf = (family_br[:, :, None] == torch.arange(len(_FAMILIES) + 1, device=family_br.device)).sum(0).tolist()
    images = images_bhwc.clone(memory_format=torch.contiguous_format)
    for members_b, sizes_f, row_b in zip(members_br.unbind(1), sizes_rf, row_br.unbind(1), strict=True):
        groups = torch.split(members_b, sizes_f)  # the last one is left as it is
        for operate, part in zip(_FAMILIES.values(), groups, strict=False):
            if len(part):
                images.index_copy_(0, part, operate(images.index_select(0, part), row_b.index_select(0, part)))
    return images


def _move(images_bhwc: Tensor, row_b: Tensor) -> Tensor:
    """Return the pictures with each pixel taken from where the row of `_sources` says."""
    import torch

    b, height, width, channels = images_bhwc.shape
    source_bn = _sources(height, width, images_bhwc.device)[row_b]
    first_b1 = torch.arange(0, b * height * width, height * width, device=row_b.device)[:, None]
    pixels = images_bhwc.reshape(-1, channels)[(source_bn.clamp_min(0) + first_b1).flatten()]
    return pixels.masked_fill_((source_bn < 0).view(-1, 1), GREY).view(images_bhwc.shape)


def _look_up(images_bhwc: Tensor, row_b: Tensor) -> Tensor:
    """Return the pictures with each value replaced by what the row of `_values` has for it."""
    values = _values(images_bhwc.device)
    return values.flatten()[256 * row_b[:, None, None, None] + images_bhwc]


def _adjust_contrast(images_bhwc: Tensor, row_b: Tensor) -> Tensor:
    """Blend with the mean luminance of each picture."""
    _, height, width, _ = images_bhwc.shape
    percent = _percent(row_b)
    total_b111 = _luminance(images_bhwc).long().sum(dim=(1, 2, 3), keepdim=True)
    return _blend(images_bhwc, (100 - percent.long()) * total_b111 // (height * width), percent)


def _adjust_saturation(images_bhwc: Tensor, row_b: Tensor) -> Tensor:
    """Blend with the luminance of each pixel."""
    percent = _percent(row_b)
    return _blend(images_bhwc, (100 - percent) * _luminance(images_bhwc), percent)


def _adjust_sharpness(images_bhwc: Tensor, row_b: Tensor) -> Tensor:
    """Blend the inner pixels with the mean of their 3 x 3 neighbours, in which they count five times themselves."""
    percent, pixels = _percent(row_b), images_bhwc.float()
    threes = pixels[:, :-2] + pixels[:, 1:-1] + pixels[:, 2:]
    thirteens = threes[:, :, :-2] + threes[:, :, 1:-1] + threes[:, :, 2:] + 4 * pixels[:, 1:-1, 1:-1]
    result = images_bhwc.clone()
    smooth = ((thirteens + 6.5) / 13).floor_()  # to the nearest
    result[:, 1:-1, 1:-1] = _blend(images_bhwc[:, 1:-1, 1:-1], (100 - percent) * smooth, percent)
    return result


def _by_torchvision(name: str, images_bhwc: Tensor, row_b: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional as F

    return getattr(F, name)(images_bhwc.permute(0, 3, 1, 2).contiguous()).permute(0, 2, 3, 1)  # type: ignore[no-any-return]


_FAMILIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "move": _move,
    "look_up": _look_up,
    "contrast": _adjust_contrast,
    "sharpness": _adjust_sharpness,
    "saturation": _adjust_saturation,
    "auto_contrast": functools.partial(_by_torchvision, "autocontrast"),
    "equalize": functools.partial(_by_torchvision, "equalize"),
}
_TABLES = {"move": ("shear_x", "shear_y", "translate_x", "translate_y", "rotate"), "look_up": ("brightness", "posterize", "solarize")}
"""Families that go by a table -> the operations whose rows it has, plus and minus."""


@functools.lru_cache(maxsize=8)
def _places(names: tuple[str, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the family of each operation, plus and minus, and its row in the table of that family; identity comes last."""
    import torch

    families = list(_FAMILIES)
    found = []
    for name in names:
        for minus in (0, 1):
            signed = minus if name in SIGNED else 0
            family, row = next(((f, 2 * rows.index(name)) for f, rows in _TABLES.items() if name in rows), (name, 0))
            found.append((families.index(family) if family in families else len(families), row + signed))
    family_g, row_g = torch.tensor(found, device=device).unbind(1)
    return family_g, row_g


@functools.lru_cache(maxsize=8)
def _sources(height: int, width: int, device: torch.device) -> Tensor:
    """Return (10, H W) int64: which pixel torchvision takes for each, of the moves in `_TABLES`; -1 from outside."""
    import torch
    from torchvision.transforms.v2 import functional as F

    lean = math.degrees(math.atan(_SHEAR))
    numbered = torch.arange(1, height * width + 1, dtype=torch.float64).view(1, height, width)
    affine = functools.partial(F.affine, numbered, angle=0.0, translate=[0, 0], scale=1.0, shear=[0.0, 0.0], fill=0)
    calls: tuple[Callable[[int], Tensor], ...] = (
        lambda s: affine(shear=[s * lean, 0.0], center=[0.0, 0.0]),
        lambda s: affine(shear=[0.0, s * lean], center=[0.0, 0.0]),
        lambda s: affine(translate=[s * (_TRANSLATE * width // 331), 0]),
        lambda s: affine(translate=[0, s * (_TRANSLATE * height // 331)]),
        lambda s: F.rotate(numbered, s * _ROTATE, fill=0),
    )
    rows = [call(sign).flatten().long() - 1 for call in calls for sign in (1, -1)]
    return torch.stack(rows).to(device)


@functools.lru_cache(maxsize=8)
def _values(device: torch.device) -> Tensor:
    """Return (6, 256) uint8: what torchvision makes of each value, of `_TABLES`."""
    import torch
    from torchvision.transforms.v2 import functional as F

    every = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    rows = [F.adjust_brightness(every, (100 + sign * _ENHANCE) / 100) for sign in (1, -1)]
    rows += [F.posterize(every, _POSTERIZE)] * 2 + [F.solarize(every, _SOLARIZE)] * 2
    return torch.stack(rows).view(6, 256).to(device)


def _percent(row_b: Tensor) -> Tensor:
    """Return (B, 1, 1, 1) float32: 127 where the sign is plus, 73 where it is minus."""
    return (100 + _ENHANCE - 2 * _ENHANCE * row_b).float()[:, None, None, None]


# Whole numbers below 2^24, which float32 holds: half a unit more before they are divided keeps the quotient off whole numbers.


def _luminance(images_bhwc: Tensor) -> Tensor:
    """Return 0.2989 red + 0.587 green + 0.114 blue, rounded down: (B, H, W, 1) float32."""
    pixels = images_bhwc.float()
    if pixels.shape[3] == 1:
        return pixels
    total = 2989 * pixels[..., 0:1] + 5870 * pixels[..., 1:2] + 1140 * pixels[..., 2:3]
    return total.add_(0.5).div_(10000).floor_()


def _blend(images_bhwc: Tensor, share: Tensor, percent: Tensor) -> Tensor:
    """Return ``(percent image + share) / 100``, rounded down and kept in 0 to 255; the share is in whole numbers."""
    import torch

    hundredfold = percent * images_bhwc + share
    return hundredfold.add_(0.5).div_(100).clamp_(0, 255).to(torch.uint8)


def cutout(images_bhwc: Tensor, draws_bk: Tensor) -> Tensor:
    """Return the pictures with a grey square in each, half as long as the shorter side and centred on any pixel.

    A square at the border is cut off there, so that a quarter of it at least is inside.

    Args:
        images_bhwc: (B, H, W, C) uint8; left as they are.
        draws_bk: (B, 2) float32, uniform in [0, 1), on the same device: row and column of the centre. A square of
            length L covers the rows from centre - L // 2 to centre - L // 2 + L - 1, and the columns alike.
    Returns:
        (B, H, W, C) uint8, contiguous.
    Cost:
        One pass over the pixels.
    Source:
        DeVries, Taylor, arXiv:1708.04552. Deviations: the square is grey (128) and not the mean of the data set; it
        covers half the side (16 of 32 pixels, as theirs for CIFAR-10) whatever the data set.
    """
    import torch

    _, height, width, _ = images_bhwc.shape
    length = min(height, width) // 2

    def inside(n: int, draw_b: Tensor) -> Tensor:
        centre_b = (draw_b * n).long()
        offset_bn = torch.arange(n, device=draw_b.device) - (centre_b - length // 2)[:, None]
        return (offset_bn >= 0) & (offset_bn < length)

    covered_bhw = inside(height, draws_bk[:, 0])[:, :, None] & inside(width, draws_bk[:, 1])[:, None, :]
    return images_bhwc.masked_fill(covered_bhw[..., None], GREY).contiguous()
