"""Strong augmentation against a twin that takes one picture at a time through torchvision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from prune_cli.methods.training.data import strong_augment as module
from prune_cli.methods.training.data.strong_augment import N_STRONG_DRAWS, SIGNED, cutout, operations, rand_augment, strong_augment

SHAPES = [(8, 8, 1), (28, 28, 1), (32, 32, 3), (5, 9, 3), (33, 20, 3), (2, 2, 3), (1, 3, 1)]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def luminance(x: torch.Tensor) -> torch.Tensor:
    x = x.double()
    return x if len(x) == 1 else (0.2989 * x[:1] + 0.587 * x[1:2] + 0.114 * x[2:] + 1e-9).floor()


def neighbourhood(x: torch.Tensor) -> torch.Tensor:
    """Return each pixel's 3 x 3 mean, itself five times; the border as it is."""
    x = x.double()
    result = x.clone()
    for row in range(1, x.shape[1] - 1):
        for column in range(1, x.shape[2] - 1):
            nine = x[:, row - 1 : row + 2, column - 1 : column + 2].sum(dim=(1, 2))
            result[:, row, column] = ((nine + 4 * x[:, row, column]) / 13).round()
    return result


def blend(x: torch.Tensor, other: torch.Tensor, s: int) -> torch.Tensor:
    """Return the blend in float64, not rounded."""
    return x * (1 + s * 0.27) - other * (s * 0.27)


def rounded(exact: torch.Tensor) -> torch.Tensor:
    return (exact + 1e-9).clamp(0, 255).to(torch.uint8)


BLENDS = {
    "contrast": lambda x, s: blend(x.double(), luminance(x).mean(), s),
    "sharpness": lambda x, s: blend(x.double(), neighbourhood(x), s),
    "saturation": lambda x, s: blend(x.double(), luminance(x), s),
}

# each on (C, H, W), with the sign; in the order of the draws
SHEAR = math.degrees(math.atan(0.09))
TWINS = {
    "shear_x": lambda x, s: F.affine(x, 0.0, [0, 0], 1.0, [s * SHEAR, 0.0], fill=[128.0], center=[0, 0]),
    "shear_y": lambda x, s: F.affine(x, 0.0, [0, 0], 1.0, [0.0, s * SHEAR], fill=[128.0], center=[0, 0]),
    "translate_x": lambda x, s: F.affine(x, 0.0, [s * (45 * x.shape[2] // 331), 0], 1.0, [0.0, 0.0], fill=[128.0]),
    "translate_y": lambda x, s: F.affine(x, 0.0, [0, s * (45 * x.shape[1] // 331)], 1.0, [0.0, 0.0], fill=[128.0]),
    "rotate": lambda x, s: F.rotate(x, s * 9.0, fill=[128.0]),
    "brightness": lambda x, s: F.adjust_brightness(x, 1 + s * 0.27),
    "contrast": lambda x, s: rounded(BLENDS["contrast"](x, s)),
    "sharpness": lambda x, s: rounded(BLENDS["sharpness"](x, s)),
    "saturation": lambda x, s: rounded(BLENDS["saturation"](x, s)),
    "posterize": lambda x, s: F.posterize(x, 7),
    "solarize": lambda x, s: F.solarize(x, 178.5),
    "auto_contrast": lambda x, s: F.autocontrast(x),
    "equalize": lambda x, s: F.equalize(x),
    "identity": lambda x, s: x,
}


def pictures(b: int, h: int, w: int, c: int, seed: int = 0) -> torch.Tensor:
    """Return pictures of differing range, so that auto-contrast and equalize have something to do."""
    rng = torch.Generator().manual_seed(seed)
    low, high = torch.rand(b, 1, 1, c, generator=rng) * 100, 150 + torch.rand(b, 1, 1, c, generator=rng) * 105
    return (low + torch.rand(b, h, w, c, generator=rng) * (high - low)).to(torch.uint8)


def draws(b: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(b, N_STRONG_DRAWS, generator=torch.Generator().manual_seed(seed))


def draw_of(name: str, n_channels: int = 3) -> float:
    """Return the middle of the draws that mean this operation."""
    names = operations(n_channels)
    return (names.index(name) + 0.5) / len(names)


def apply_operation(images_bchw: torch.Tensor, name: str, sign: int) -> torch.Tensor:
    """Return pictures that all went through one operation, and then through the identity."""
    channels = images_bchw.shape[1]
    drawn = [draw_of(name, channels), 0.1 if sign < 0 else 0.9, draw_of("identity", channels), 0.9]
    d = torch.tensor([drawn] * len(images_bchw), device=images_bchw.device)
    return rand_augment(images_bchw.permute(0, 2, 3, 1), d).permute(0, 3, 1, 2)


def slow_strong(images: torch.Tensor, draws_bk: torch.Tensor) -> torch.Tensor:
    """Operation, operation, square: one picture at a time."""
    _, h, w, c = images.shape
    names = [name for name in TWINS if c == 3 or name != "saturation"]
    side, result = min(h, w) // 2, []
    for image, draw in zip(images, draws_bk.tolist(), strict=True):
        picture = image.permute(2, 0, 1).contiguous()
        for which, sign in (draw[0:2], draw[2:4]):
            picture = TWINS[names[int(which * len(names))]](picture, -1 if sign < 0.5 else 1)
        top, left = int(draw[4] * h) - side // 2, int(draw[5] * w) - side // 2
        rows = [row for row in range(top, top + side) if 0 <= row < h]
        columns = [column for column in range(left, left + side) if 0 <= column < w]
        if rows and columns:
            grey = torch.full((1, 1, 1), 128, dtype=torch.uint8)
            picture = F.erase(picture, rows[0], columns[0], len(rows), len(columns), grey)
        result.append(picture.permute(1, 2, 0))
    return torch.stack(result)


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_slow_twin(shape):
    images, d = pictures(600, *shape), draws(600)
    before = images.clone()
    fast = strong_augment(images, d)
    assert fast.dtype == torch.uint8 and fast.shape == images.shape and fast.is_contiguous()
    assert torch.equal(fast, slow_strong(images, d))
    assert torch.equal(images, before)


@pytest.mark.parametrize(("name", "channels"), [(name, c) for c in (1, 3) for name in TWINS if c == 3 or name != "saturation"])
def test_each_operation_equals_its_twin_picture_by_picture(name, channels):
    images = pictures(50, 21, 17, channels).permute(0, 3, 1, 2).contiguous()
    for sign in (1, -1):
        slow = torch.stack([TWINS[name](image, sign) for image in images])
        assert torch.equal(apply_operation(images, name, sign), slow)


@pytest.mark.parametrize("name", list(BLENDS))
def test_blends_are_torchvisions_but_where_they_are_whole_numbers(name):
    images = pictures(50, 21, 17, 3).permute(0, 3, 1, 2).contiguous()
    for sign in (1, -1):
        off = apply_operation(images, name, sign).int() - getattr(F, f"adjust_{name}")(images, 1 + sign * 0.27).int()
        exact = torch.stack([BLENDS[name](image, sign) for image in images])
        whole = (exact - exact.round()).abs() < 1e-4
        assert not off[~whole].any()
        assert off.abs().max() <= 1 and (off != 0).double().mean() < 0.01


def test_the_operations_are_those_of_torchvisions_randaugment():
    image = pictures(1, 24, 24, 3).permute(0, 3, 1, 2).contiguous()
    named = [(name, sign) for name in operations(3) for sign in ((1, -1) if name in SIGNED else (1,))]
    assert len(named) == 2 * 9 + 5
    ours = torch.cat([apply_operation(image, name, sign) for name, sign in named]).int()
    theirs = v2.RandAugment(num_ops=1, magnitude=9, num_magnitude_bins=31, fill=128)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        seen = {}
        for _ in range(600):
            result = theirs(image)
            off = (ours - result.int()).abs().amax(dim=(1, 2, 3))
            assert off.min() <= 1  # where a blend is a whole number
            seen[named[int(off.argmin())]] = int(off.min())
    assert set(seen) == set(named)
    assert sum(seen.values()) <= 6  # contrast, sharpness, saturation


def one(name: str, values: list[int], sign: int = 1) -> list[int]:
    image = torch.tensor(values, dtype=torch.uint8).reshape(1, 1, 1, -1)
    return apply_operation(image, name, sign).flatten().tolist()


def test_operations_by_hand():
    assert one("brightness", [0, 100, 250]) == [0, 127, 255]
    assert one("brightness", [0, 100, 250], -1) == [0, 73, 182]  # 182.5
    assert one("contrast", [50, 150]) == [36, 163]  # 100 -+ 63.5
    assert one("contrast", [50, 150], -1) == [63, 136]  # 100 -+ 36.5
    assert one("posterize", [4, 5, 255]) == [4, 4, 254]
    assert one("solarize", [0, 178, 179, 255]) == [0, 178, 76, 0]
    assert one("auto_contrast", [50, 100, 150]) == [0, 127, 254]  # torchvision rounds 254.99998 down
    assert one("translate_x", [1, 2, 3, 4, 5, 6, 7, 8]) == [128, 1, 2, 3, 4, 5, 6, 7]  # 8 * 45 / 331 is 1
    assert one("translate_x", [1, 2, 3, 4, 5, 6, 7, 8], -1) == [2, 3, 4, 5, 6, 7, 8, 128]
    assert one("identity", [1, 2, 3]) == [1, 2, 3]
    spot = torch.zeros(1, 1, 3, 3, dtype=torch.uint8)
    spot[0, 0, 1, 1] = 130  # its neighbourhood is 5 / 13 of it, 50
    assert apply_operation(spot, "sharpness", 1)[0, 0].tolist() == [[0, 0, 0], [0, 151, 0], [0, 0, 0]]  # 130 + 0.27 * 80
    assert apply_operation(spot, "sharpness", -1)[0, 0].tolist() == [[0, 0, 0], [0, 108, 0], [0, 0, 0]]


def test_two_rounds_and_a_square_by_hand():
    image = torch.full((1, 4, 4, 1), 200, dtype=torch.uint8)
    still = draw_of("identity", 1)
    d = torch.tensor([[still, 0.0, still, 0.0, 2.5 / 4, 0.5 / 4]])  # centre at row 2, column 0
    expected = [[200, 200, 200, 200], [128, 200, 200, 200], [128, 200, 200, 200], [200, 200, 200, 200]]
    assert strong_augment(image, d)[0, :, :, 0].tolist() == expected
    # darker by 0.27, then inverted from 179 on: 146; the other way round, 55 and 40
    down, invert = draw_of("brightness", 1), draw_of("solarize", 1)
    assert strong_augment(image, torch.tensor([[down, 0.0, invert, 0.0, 0.0, 0.0]]))[0, 3, 3].tolist() == [146]
    assert strong_augment(image, torch.tensor([[invert, 0.0, down, 0.0, 0.0, 0.0]]))[0, 3, 3].tolist() == [40]


def test_the_square_may_leave_the_picture_and_is_half_its_shorter_side():
    black = torch.zeros(3, 6, 9, 1, dtype=torch.uint8)
    covered = cutout(black, torch.tensor([[0.0, 0.0], [0.5, 0.5], [0.99, 0.99]]))
    assert not black.any()
    assert (covered == 128).sum(dim=(1, 2, 3)).tolist() == [4, 9, 4]
    assert (covered[1, 2:5, 3:6] == 128).all()
    assert (covered[0, :2, :2] == 128).all() and (covered[2, 4:, 7:] == 128).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3), (27, 19, 3), (5, 9, 1)])
def test_a_batch_is_its_pictures_one_by_one(shape, device):
    images, d = pictures(257, *shape).to(device), draws(257).to(device)
    together = strong_augment(images, d)
    alone = torch.cat([strong_augment(images[i : i + 1], d[i : i + 1]) for i in range(len(images))])
    assert torch.equal(together, alone)
    order = torch.randperm(257, generator=torch.Generator().manual_seed(2)).to(device)
    assert torch.equal(strong_augment(images[order], d[order]), together[order])
    assert torch.equal(strong_augment(images, d), together)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("device", DEVICES)
def test_a_large_bright_picture_does_not_depend_on_its_batch(device, channels):
    # values sum to more than 2^24, where float32 no longer counts every unit, and every blend is next to an integer
    images = torch.arange(224, 256, dtype=torch.uint8, device=device)[:, None, None, None].repeat(1, channels, 301, 299)
    for name in [name for name in BLENDS if name in operations(channels)]:
        for sign in (1, -1):
            together = apply_operation(images, name, sign)
            alone = [apply_operation(image[None], name, sign) for image in images]
            assert torch.equal(together, torch.cat(alone))
            assert torch.equal(together, together[:, :, :1, :1].expand_as(together))


def test_the_greatest_and_the_least_draw_stay_inside():
    top = float(np.nextafter(np.float32(1), np.float32(0)))
    for shape in SHAPES:
        images = pictures(2, *shape)
        d = torch.tensor([[top] * N_STRONG_DRAWS, [0.0] * N_STRONG_DRAWS])
        assert torch.equal(strong_augment(images, d), slow_strong(images, d))


@pytest.mark.parametrize("channels", [1, 3])
def test_operations_are_drawn_evenly_to_both_sides(channels):
    n = len(operations(channels))
    assert n == (14 if channels == 3 else 13) and ("saturation" in operations(channels)) == (channels == 3)
    which, side = torch.meshgrid((torch.arange(10 * n) + 0.5) / (10 * n), torch.tensor([0.0, 0.49, 0.5, 0.9]), indexing="ij")
    still = torch.full((40 * n,), draw_of("identity", channels))
    image = pictures(1, 9, 11, channels)
    for columns in ([which.flatten(), side.flatten(), still, still], [still, still, which.flatten(), side.flatten()]):
        found = rand_augment(image.expand(40 * n, -1, -1, -1), torch.stack(columns, dim=1)).permute(0, 3, 1, 2)
        for k, name in enumerate(operations(channels)):
            minus, plus = (TWINS[name](image[0].permute(2, 0, 1), sign) for sign in (-1, 1))
            assert torch.equal(found[40 * k : 40 * (k + 1)], torch.stack([minus, minus, plus, plus] * 10)), name


def test_empty_groups_cost_nothing(monkeypatch):
    calls: list[str] = []

    def recorded(name, operate):
        def record(images, row):
            calls.append(name)
            return operate(images, row)

        return record

    families = dict(module._FAMILIES)
    monkeypatch.setattr(module, "_FAMILIES", {name: recorded(name, f) for name, f in families.items()})
    images = pictures(5, 8, 8, 3)
    still, turn = draw_of("identity"), draw_of("rotate")
    assert torch.equal(rand_augment(images, torch.tensor([[still, 0.1, still, 0.9]] * 5)), images)
    assert calls == []
    rand_augment(images, torch.tensor([[turn, 0.1, still, 0.9]] * 5))
    assert calls == ["move"]
    calls.clear()
    rand_augment(pictures(2000, 8, 8, 3), draws(2000)[:, :4])
    assert calls == 2 * list(families)


def test_no_random_state_is_used():
    before = torch.random.get_rng_state()
    strong_augment(pictures(40, 8, 8, 3), draws(40))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_empty_batch():
    assert strong_augment(pictures(0, 8, 8, 3), draws(0)).shape == (0, 8, 8, 3)
