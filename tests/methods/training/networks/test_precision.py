"""Precision: by name, and by the machine."""

from __future__ import annotations

import pytest
import torch

from prune_cli.core.errors import InputError
from prune_cli.methods.training.networks.forward import choose_precision


def test_precision_is_settled_by_the_machine():
    cpu = torch.device("cpu")
    assert choose_precision("float32", cpu, True) == torch.float32
    assert choose_precision("bfloat16", cpu, False) == torch.bfloat16
    assert choose_precision("auto", cpu, False) == torch.float32
    with pytest.raises(InputError, match="float64"):
        choose_precision("float64", cpu, True)
