"""What is asked for: the options of ``prune select``, and the method that they name with its parameters."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from prune_cli.core.errors import InputError
from prune_cli.core.params import build_params, split_assignments
from prune_cli.methods.registry.lookup import find_method, methods_of, preset_params
from prune_cli.methods.registry.method import Method
from prune_cli.methods.registry.selections import DEFAULT, DEFAULT_BY_SCORE
from prune_cli.methods.selection.capabilities import InBlocks
from prune_cli.stages.select.budgets import check_stated
from prune_cli.stages.select.key import WantedKeys
from prune_cli.stages.select.options import SelectOptions


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Args:
        options: as they were given.
        method: that they name, or the default.
        params: its parameters.
        keys: the columns that they name.
    """

    options: SelectOptions
    method: Method
    params: Any
    keys: WantedKeys

    @property
    def needs_key(self) -> bool:
        """Whether a score column is read."""
        return "score" in self.method.uses or self.keys.key is not None or self.options.threshold is not None


def read_request(options: SelectOptions) -> Request:
    """Return what is asked for.

    Raises:
        InputError: no such method, budgets or parameters that have no meaning for it, or an engine where it has no blocks.
    """
    default = DEFAULT_BY_SCORE if options.threshold is not None else DEFAULT
    method = find_method("selection", options.method or default)
    check_stated(options, method)
    assignments = split_assignments(options.params, (method.name,))[method.name]
    keys = WantedKeys(**{field.name: assignments.pop(field.name, None) for field in dataclasses.fields(WantedKeys)})
    preset = preset_params(options.preset, "selection", [method.name])[method.name]
    params: Any = build_params(method.params_class(), {**preset, **assignments}, method.name)
    if options.runtime.engine != "local" and not isinstance(params, InBlocks):
        known = [n for n, m in methods_of("selection").items() if issubclass(m.params_class(), InBlocks)]
        raise InputError(
            f"--engine {options.runtime.engine} runs blocks of work, and {method.name} has none",
            f"leave out --engine, or use one of: {', '.join(known)}",
        )
    return Request(options, method, params, keys)
