"""The registries of training: recipes, and structures, which say what becomes of the network while it trains."""

from __future__ import annotations

from prune_cli.methods.registry.method import Method

RECIPES = (
    Method(
        name="standard",
        kind="recipe",
        module="prune_cli.methods.training.recipes.sgd",
        function="train_standard",
        params="StandardParams",
        summary="cross-entropy with SGD, nesterov momentum, cosine schedule, crop and flip",
        cost="steps x batch x 3 forward passes",
        source="He 2016, with label smoothing (Szegedy 2016) and cosine decay (Loshchilov 2017)",
        shares_batches=True,
    ),
    Method(
        name="sop",
        kind="recipe",
        module="prune_cli.methods.training.recipes.sop",
        function="train_sop",
        params="SopParams",
        summary="for wrong labels: every sample has numbers of its own that take up its label error (SOP+); re-labels",
        cost="two views a presentation: twice standard",
        source="Liu et al., ICML 2022, arXiv:2202.14026",
    ),
    Method(
        name="elr",
        kind="recipe",
        module="prune_cli.methods.training.recipes.elr",
        function="train_elr",
        params="ElrParams",
        summary="for wrong labels: held to what the network predicted before; re-labels",
        cost="that of standard",
        source="Liu et al., NeurIPS 2020, arXiv:2007.00151",
    ),
    Method(
        name="elr_plus",
        kind="recipe",
        module="prune_cli.methods.training.recipes.elr",
        function="train_elr_plus",
        params="ElrPlusParams",
        summary="elr with two networks, mixed samples and averaged weights; re-labels",
        cost="2.7 times standard",
        source="Liu et al., NeurIPS 2020, arXiv:2007.00151",
    ),
    Method(
        name="dividemix",
        kind="recipe",
        module="prune_cli.methods.training.recipes.dividemix",
        function="train_dividemix",
        params="DivideMixParams",
        summary="for wrong labels: two networks tell each other whose labels to trust; re-labels",
        cost="7 times standard",
        source="Li, Socher, Hoi, ICLR 2020, arXiv:2002.07394",
    ),
)


STRUCTURES = (
    Method(
        name="complexity_aware",
        kind="structure",
        module="prune_cli.methods.structure.shrinking",
        function="complexity_aware",
        params="ComplexityAwareParams",
        summary="units and layers that are worth less than their FLOPs and parameters are cut out while the network trains",
        cost="that of the recipe, less with every cut",
        source="Guenter, Sideris, 2024, arXiv:2411.09127",
    ),
    Method(
        name="magnitude",
        kind="structure",
        module="prune_cli.methods.structure.shrinking",
        function="magnitude",
        params="MagnitudeParams",
        summary="units of the smallest L1 norm are cut out, the same share of every layer, once or in rounds: to compare with",
        cost="that of the recipe, less after every cut",
        source="Li et al., ICLR 2017, arXiv:1608.08710",
    ),
)
