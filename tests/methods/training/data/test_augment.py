"""Augmentation against a twin that takes one picture at a time through torchvision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from prune_cli.core.errors import InputError
from prune_cli.methods.training.data.augment import Augmentation, augment, choose_augmentation
from prune_cli.methods.training.data.strong_augment import strong_augment


def pictures(b: int, h: int, w: int, c: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (b, h, w, c), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def draws(b: int, k: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(b, k, generator=torch.Generator().manual_seed(seed))


def slow_shift(images: torch.Tensor, draws_bk: torch.Tensor, padding: int, flip: bool) -> torch.Tensor:
    """Pad by reflection, crop, then mirror, with torchvision and one picture at a time."""
    _, h, w, _ = images.shape
    result = []
    for image, draw in zip(images, draws_bk.tolist(), strict=True):
        top, left = (int(u * (2 * padding + 1)) for u in draw[1:3])
        padded = v2.functional.pad(image.permute(2, 0, 1), [padding] * 4, padding_mode="reflect")
        cropped = v2.functional.crop(padded, top, left, h, w)
        if flip and draw[0] < 0.5:
            cropped = v2.functional.horizontal_flip(cropped)
        result.append(cropped.permute(1, 2, 0))
    return torch.stack(result)


@pytest.mark.parametrize(("h", "w", "c"), [(8, 8, 1), (28, 28, 1), (32, 20, 3), (5, 9, 2)])
@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("flip", [False, True])
def test_shift_and_flip_equal_the_slow_twin(h, w, c, padding, flip):
    images, d = pictures(40, h, w, c), draws(40, 3)
    fast = augment(images, d, Augmentation(padding, flip))
    assert fast.dtype == torch.uint8
    assert torch.equal(fast, slow_shift(images, d, padding, flip))


def test_shift_by_hand():
    image = torch.tensor([[[1], [2], [3]]], dtype=torch.uint8)[None]  # one row: 1 2 3
    pad = Augmentation(padding=0, flip=True)
    assert augment(image, torch.tensor([[0.49, 0.0, 0.0]]), pad).flatten().tolist() == [3, 2, 1]
    assert augment(image, torch.tensor([[0.5, 0.0, 0.0]]), pad).flatten().tolist() == [1, 2, 3]
    square = torch.arange(9, dtype=torch.uint8).reshape(1, 3, 3, 1)
    # up by one and left by one: the row above the first is the second
    moved = augment(square, torch.tensor([[0.9, 0.0, 0.0]]), Augmentation(padding=1))
    assert moved[0, :, :, 0].tolist() == [[4, 3, 4], [1, 0, 1], [4, 3, 4]]


def test_the_greatest_draw_stays_inside():
    top = float(np.nextafter(np.float32(1), np.float32(0)))
    for padding in range(1, 8):
        image = pictures(1, 8, 8, 1)
        d = torch.tensor([[top, top, top]])
        assert torch.equal(augment(image, d, Augmentation(padding)), slow_shift(image, d, padding, False))


def slow_resized_crop(images: torch.Tensor, draws_bk: torch.Tensor, min_area: float, flip: bool) -> np.ndarray:
    """Sample each output pixel bilinearly in the drawn box, one at a time."""
    b, h, w, c = images.shape
    source = images.numpy().astype(np.float64)
    result = np.empty((b, h, w, c))
    for i, (mirror, top, left, area, aspect) in enumerate(draws_bk.double().tolist()):
        share = min_area + area * (1 - min_area)
        ratio = math.exp((2 * aspect - 1) * math.log(4 / 3))
        wide, high = min(1, math.sqrt(share * ratio)), min(1, math.sqrt(share / ratio))
        for row in range(h):
            for column in range(w):
                y = (top * (1 - high) + (row + 0.5) / h * high) * h - 0.5
                x = (left * (1 - wide) + (column + 0.5) / w * wide) * w - 0.5
                y, x = min(max(y, 0), h - 1), min(max(x, 0), w - 1)
                y0, x0 = int(y), int(x)
                y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
                upper = source[i, y0, x0] * (1 - (x - x0)) + source[i, y0, x1] * (x - x0)
                lower = source[i, y1, x0] * (1 - (x - x0)) + source[i, y1, x1] * (x - x0)
                place = w - 1 - column if flip and mirror < 0.5 else column
                result[i, row, place] = upper * (1 - (y - y0)) + lower * (y - y0)
    return result


@pytest.mark.parametrize("flip", [False, True])
def test_resized_crop_equals_the_slow_twin(flip):
    images, d = pictures(6, 9, 12, 3), draws(6, 5)
    fast = augment(images, d, Augmentation(flip=flip, min_area=0.3))
    np.testing.assert_allclose(fast.numpy(), slow_resized_crop(images, d, 0.3, flip), atol=2e-3)


def test_a_crop_of_everything_is_the_picture():
    images = pictures(3, 10, 10, 3)
    d = draws(3, 5)
    d[:, 4] = 0.5  # square
    np.testing.assert_allclose(augment(images, d, Augmentation(min_area=1.0)).numpy(), images.numpy(), atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((512,), Augmentation()),
        ((8, 8, 1), Augmentation()),
        ((28, 28, 1), Augmentation(padding=1)),  # grey: glyphs do not mirror
        ((32, 32, 3), Augmentation(padding=2, flip=True)),
        ((63, 200, 3), Augmentation(padding=3, flip=True)),
        ((64, 64, 3), Augmentation(flip=True, min_area=0.35)),
        ((224, 224, 1), Augmentation(min_area=0.35)),
        ((5, 5, 3), Augmentation(flip=True)),
    ],
)
def test_auto_goes_by_size_and_colour(shape, expected):
    assert choose_augmentation("auto", shape, None, 0.35, True) == expected
    assert choose_augmentation("auto", shape, None, 0.35, False) == Augmentation()


def test_names_and_padding():
    assert choose_augmentation("none", (32, 32, 3), 4, 0.35, True).n_draws == 0
    assert choose_augmentation("flip", (32, 32, 3), 4, 0.35, True) == Augmentation(flip=True)
    assert choose_augmentation("crop_flip", (32, 32, 1), 2, 0.35, True) == Augmentation(padding=2, flip=True)
    assert choose_augmentation("resized_crop_flip", (8, 8, 1), None, 0.5, True).n_draws == 5
    with pytest.raises(InputError, match="side 8"):
        choose_augmentation("crop", (8, 8, 1), 8, 0.35, True)
    with pytest.raises(InputError, match="vectors"):
        choose_augmentation("crop", (8,), None, 0.35, True)


def test_strong_by_name():
    assert choose_augmentation("strong", (32, 32, 3), None, 0.35, True) == Augmentation(2, True, strong=True)
    assert choose_augmentation("strong", (28, 28, 1), 3, 0.35, False) == Augmentation(3, strong=True)  # asked for
    assert choose_augmentation("strong", (224, 224, 3), None, 0.35, True) == Augmentation(14, True, strong=True)
    assert choose_augmentation("strong", (8, 8, 1), None, 0.35, True).n_draws == 9
    with pytest.raises(InputError, match="augment=strong is for pictures"):
        choose_augmentation("strong", (8,), None, 0.35, True)
    with pytest.raises(InputError, match="2 channels"):
        choose_augmentation("strong", (8, 8, 2), None, 0.35, True)
    with pytest.raises(InputError, match="side 8"):
        choose_augmentation("strong", (8, 8, 1), 8, 0.35, True)
    with pytest.raises(InputError, match="resized crop"):
        Augmentation(min_area=0.5, strong=True)


def test_strong_mirrors_first_by_hand():
    row = torch.tensor([10, 20, 30, 40], dtype=torch.uint8)
    image = row[None, None, :, None].expand(1, 4, 4, 3)
    still = 0.99  # the last operation: identity
    d = torch.tensor([[0.49, 0, 0, still, 0, still, 0, 0, 0]])  # mirror; a square of 2 x 2 around the corner: one pixel
    result = augment(image, d, Augmentation(flip=True, strong=True))
    assert result[0, :, :, 0].tolist() == [[128, 30, 20, 10]] + [[40, 30, 20, 10]] * 3
    d[0, 0] = 0.5
    assert augment(image, d, Augmentation(flip=True, strong=True))[0, 1, :, 2].tolist() == [10, 20, 30, 40]


@pytest.mark.parametrize(("h", "w", "c"), [(8, 8, 1), (32, 32, 3)])
def test_strong_is_the_shift_and_then_the_rest(h, w, c):
    images, d = pictures(200, h, w, c), draws(200, 9)
    moved = slow_shift(images, d, 2, c == 3)
    expected = strong_augment(moved, d[:, 3:])
    assert torch.equal(augment(images, d, Augmentation(2, c == 3, strong=True)), expected)
    one_by_one = [augment(images[i : i + 1], d[i : i + 1], Augmentation(2, c == 3, strong=True)) for i in range(200)]
    assert torch.equal(torch.cat(one_by_one), expected)
