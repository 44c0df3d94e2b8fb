"""The registry of structures: what becomes of the network while it trains."""

from __future__ import annotations

from prune_cli.methods.registry.method import Method

STRUCTURES = (
    Method(
        name="complexity_aware",
        kind="structure",
        module="prune_cli.methods.structure.complexity_aware",
        function="complexity_aware",
        params="ComplexityAwareParams",
        summary="units and layers that are worth less than their FLOPs and parameters are cut out while the network trains",
        cost="that of the recipe, less with every cut",
        source="Guenter, Sideris, 2024, arXiv:2411.09127",
    ),
    Method(
        name="magnitude",
        kind="structure",
        module="prune_cli.methods.structure.magnitude",
        function="magnitude",
        params="MagnitudeParams",
        summary="units of the smallest L1 norm are cut out, the same share of every layer, once or in rounds: to compare with",
        cost="that of the recipe, less after every cut",
        source="Li et al., ICLR 2017, arXiv:1608.08710",
    ),
)
