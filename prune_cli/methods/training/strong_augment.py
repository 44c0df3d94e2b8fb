"""Strong augmentation of a whole batch from draws made beforehand: RandAugment, then Cutout; no loop over samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SIGNED = (
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "contrast",
    "sharpness",
    "saturation",
)
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
    `prune_cli.methods.training.augment.augment`.

    Args:
        images_bhwc: (B, H, W, C) uint8, C = 1 or 3; left as they are.
        draws_bk: (B, 6) float32, uniform in [0, 1), on the same device: operation, sign, operation, sign, row, column.
    Returns:
        (B, H, W, C) uint8, contiguous.
    Cost:
        Linear in the pixels; 44 calls of torchvision at most whatever B is, and one wait for the device.
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

    In each round the pictures are grouped by operation and sign, and each group that is not empty goes through
    `apply_operation` at once.

    Args:
        images_bhwc: (B, H, W, C) uint8, C = 1 or 3; left as they are.
        draws_bk: (B, 4) float32, uniform in [0, 1), on the same device: operation, sign, operation, sign. The i-th of n
            operations is the draws from i / n to (i + 1) / n; a sign is minus below 0.5.
    Returns:
        (B, H, W, C) uint8: a view laid out (B, C, H, W).
    Cost:
        Linear in the pixels; 22 groups a round at most, and one wait for the device, to learn how large they are.
    Source:
        Cubuk, Zoph, Shlens, Le, NeurIPS 2020, arXiv:1909.13719: its 14 operations, N = 2, M = 9, one magnitude for
        all, with the ranges, signs and nearest-pixel sampling of torchvision's RandAugment with 31 bins. Deviations:
        what comes in is grey (128), as in the authors' code and unlike torchvision, where it is black; grey pictures
        draw from 13 operations.
    """
    import torch

    names = operations(images_bhwc.shape[3])
    n_signed = len(names) - len(UNSIGNED)
    images_bchw = images_bhwc.permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)
    choice_br = (draws_bk[:, 0::2] * len(names)).long()  # the greatest draw times n is below n in float32 too
    group_br = 2 * choice_br + ((draws_bk[:, 1::2] < 0.5) & (choice_br < n_signed))
    members_br = group_br.argsort(dim=0)
    group_g = torch.arange(2 * len(names), device=draws_bk.device)
    sizes_rg = (group_br[:, :, None] == group_g).sum(0).tolist()
    for members_b, sizes_g in zip(members_br.unbind(1), sizes_rg, strict=True):
        for group, part in enumerate(torch.split(members_b, sizes_g)):
            name, sign = names[group // 2], -1 if group % 2 else 1
            if len(part) and name != "identity":
                images_bchw.index_copy_(0, part, apply_operation(images_bchw.index_select(0, part), name, sign))
    return images_bchw.permute(0, 2, 3, 1)


def apply_operation(images_bchw: Tensor, name: str, sign: int) -> Tensor:
    """Return pictures that all went through one operation of magnitude 9 of 30.

    Shear by 0.09, about the upper left corner; translate by 45 / 331 of the side, rounded down; rotate by 9 degrees;
    brightness, contrast, sharpness, saturation times 1 + 0.27 or 1 - 0.27; posterize to 7 bits; solarize from 178.5 on.
    torchvision does it, but for contrast, sharpness and saturation, which are done here in whole numbers and rounded
    down: in floats, a blend that is a whole number falls to either side of it by where the picture lies in memory, so
    that it would depend on the batch. Where the blend is not a whole number, the results are torchvision's.

    Args:
        images_bchw: (B, C, H, W) uint8, C = 1 or 3, not empty.
        name: one of `operations`.
        sign: +1 or -1; without effect on the unsigned ones.
    Returns:
        (B, C, H, W) uint8.
    Raises:
        KeyError: no such operation.
    """
    from torchvision.transforms.v2 import functional as F

    height, width = images_bchw.shape[2:]
    percent = 100 + sign * _ENHANCE
    lean = sign * math.degrees(math.atan(_SHEAR))
    calls: dict[str, Callable[[Tensor], Tensor]] = {
        "shear_x": lambda x: _move(x, shear=[lean, 0.0], center=[0.0, 0.0]),
        "shear_y": lambda x: _move(x, shear=[0.0, lean], center=[0.0, 0.0]),
        "translate_x": lambda x: _move(x, translate=[sign * (_TRANSLATE * width // 331), 0]),
        "translate_y": lambda x: _move(x, translate=[0, sign * (_TRANSLATE * height // 331)]),
        "rotate": lambda x: F.rotate(x, sign * _ROTATE, fill=GREY),
        "brightness": lambda x: F.adjust_brightness(x, percent / 100),
        "contrast": lambda x: _adjust_contrast(x, percent),
        "sharpness": lambda x: _adjust_sharpness(x, percent),
        "saturation": lambda x: _adjust_saturation(x, percent),
        "posterize": lambda x: F.posterize(x, _POSTERIZE),
        "solarize": lambda x: F.solarize(x, _SOLARIZE),
        "auto_contrast": F.autocontrast,
        "equalize": F.equalize,
        "identity": lambda x: x,
    }
    return calls[name](images_bchw)


def _move(
    images_bchw: Tensor,
    translate: list[int] | None = None,
    shear: list[float] | None = None,
    center: list[float] | None = None,
) -> Tensor:
    from torchvision.transforms.v2 import functional as F

    moved: Tensor = F.affine(
        images_bchw,
        angle=0.0,
        translate=translate or [0, 0],
        scale=1.0,
        shear=shear or [0.0, 0.0],
        fill=GREY,
        center=center,
    )
    return moved


def _adjust_contrast(images_bchw: Tensor, percent: int) -> Tensor:
    """Blend with the mean luminance of each picture."""
    _, _, height, width = images_bchw.shape
    total_b111 = _luminance(images_bchw).sum(dim=(1, 2, 3), keepdim=True)
    return _blend(images_bchw, (100 - percent) * total_b111 // (height * width), percent)


def _adjust_saturation(images_bchw: Tensor, percent: int) -> Tensor:
    """Blend with the luminance of each pixel."""
    return _blend(images_bchw, (100 - percent) * _luminance(images_bchw), percent)


def _adjust_sharpness(images_bchw: Tensor, percent: int) -> Tensor:
    """Blend the inner pixels with the mean of their 3 x 3 neighbours, in which they count five times themselves."""
    pixels = images_bchw.int()
    threes = pixels[..., :-2, :] + pixels[..., 1:-1, :] + pixels[..., 2:, :]
    thirteens = threes[..., :-2] + threes[..., 1:-1] + threes[..., 2:] + 4 * pixels[..., 1:-1, 1:-1]
    result = images_bchw.clone()
    smooth = (thirteens + 6) // 13  # to the nearest
    result[..., 1:-1, 1:-1] = _blend(images_bchw[..., 1:-1, 1:-1], (100 - percent) * smooth, percent)
    return result


def _luminance(images_bchw: Tensor) -> Tensor:
    """Return 0.2989 red + 0.587 green + 0.114 blue, rounded down: (B, 1, H, W) int32."""
    pixels = images_bchw.int()
    if pixels.shape[1] == 1:
        return pixels
    return (2989 * pixels[:, 0:1] + 5870 * pixels[:, 1:2] + 1140 * pixels[:, 2:3]) // 10000


def _blend(images_bchw: Tensor, share: Tensor, percent: int) -> Tensor:
    """Return ``(percent image + share) / 100``, rounded down and kept in 0 to 255; the share is in whole numbers."""
    import torch

    return ((percent * images_bchw.int() + share) // 100).clamp_(0, 255).to(torch.uint8)


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
