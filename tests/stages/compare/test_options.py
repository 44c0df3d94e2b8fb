"""What the options of a comparison take for granted."""

from __future__ import annotations

from prune_cli.methods.registry.lookup import methods_of


def test_what_trains_and_what_selects_have_names_of_their_own() -> None:
    """Parameters are given as ``-p OWNER.NAME=VALUE``, with owners of both kinds side by side."""
    training = methods_of("recipe").keys() | methods_of("structure").keys()
    assert not training & methods_of("selection").keys()
