"""Every method by its name on the command line: where it lives, what it needs, the direction of what it returns.

Plain data: nothing heavy is imported until `Method.load` is called. A new method is one module and one entry here;
the command line, ``--list-methods`` and the contract tests read this table and nothing else.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from prune_cli.core.errors import InputError

Direction = Literal["harder", "easier"]
Kind = Literal["score", "selection", "recipe", "structure"]
Needs = Literal["inputs", "record", "features", "relabels"]
Uses = Literal["score", "features", "labels", "probabilities"]


@dataclass(frozen=True)
class Method:
    """One entry of the registry.

    Args:
        name: what the user types.
        kind: ``score`` (a number per sample), ``selection`` (which samples), ``recipe`` (how to train) or ``structure`` (what
            becomes of the network meanwhile).
        module: import path of the module.
        function: name of the public function in it.
        params: name of its parameter dataclass in the same module.
        summary: one line for ``--list-methods``.
        cost: time and memory in words and symbols.
        source: paper or origin.
        columns: score columns it can return -> the direction of a high value.
        needs: what a score is computed from: ``inputs`` (pixels or embeddings as they are), ``record`` (what a
            training run or a model says of each sample), ``features`` (a network's embeddings, or those given) or ``relabels``
            (the new labels of a run).
        uses: what a selection cannot do without.
        nested: whether a selection's answer for a budget holds its answer for every smaller one.
        classes_itself: whether a selection keeps the classes' proportion itself, instead of running inside each class.
        reads_blocks: whether a selection reads features block by block, so that they need not fit the memory.
        asks_memory: whether a selection goes by how much memory it may use.
        in_blocks: whether a selection has blocks of work that any process can do, and lets them be handed out.
        seeded: whether a selection is drawn by chance, so that another seed gives other rows.
        aliases: other names the user may type.
    """

    name: str
    kind: Kind
    module: str
    function: str
    params: str
    summary: str
    cost: str
    source: str
    columns: Mapping[str, Direction] = field(default_factory=dict)
    needs: Needs = "inputs"
    uses: tuple[Uses, ...] = ()
    nested: bool = True
    classes_itself: bool = False
    reads_blocks: bool = False
    asks_memory: bool = False
    in_blocks: bool = False
    seeded: bool = False
    aliases: tuple[str, ...] = ()

    def load(self) -> Callable[..., Any]:
        """Return the method's function, importing its module."""
        return getattr(importlib.import_module(self.module), self.function)  # type: ignore[no-any-return]

    def params_class(self) -> type:
        """Return the method's parameter dataclass, importing its module (which imports nothing heavy by itself)."""
        return getattr(importlib.import_module(self.module), self.params)  # type: ignore[no-any-return]


def _of_record(
    name: str,
    params: str,
    direction: Direction,
    summary: str,
    cost: str,
    source: str,
    terms: Mapping[str, Direction] | None = None,
) -> Method:
    return Method(
        name=name,
        kind="score",
        module="prune_cli.methods.scores.record.dynamics",
        function=f"{name}_scores",
        params=params,
        summary=summary,
        cost=cost,
        source=source,
        columns={name: direction, **(terms or {})},
        needs="record",
    )


_METHODS = (
    Method(
        name="cg",
        kind="score",
        module="prune_cli.methods.scores.kernel.complexity_gap",
        function="complexity_gap_scores",
        params="ComplexityGapParams",
        summary="complexity gap: how much the label complexity drops without the sample; needs no training",
        cost="3/8 n^3 flops and n^2 / 2 numbers a class and repeat, n = (1 + ratio) * class size; mode=exact: 2/3 N^3 in all",
        source="Ki, Choi, Chung, ICLR 2023, arXiv:2301.00930",
        columns={"cg": "harder", "cg_a2": "harder", "cg_ab": "harder", "cg_b2": "harder"},
    ),
    Method(
        name="ntk_margin",
        kind="score",
        module="prune_cli.methods.scores.kernel.ntk_margin",
        function="ntk_margin_scores",
        params="NtkParams",
        summary="by how much the label leads, predicted from all other samples by kernel regression; finds wrong labels; no training",
        cost="2/3 N^3 flops and N^2 / 2 numbers on disk for all classes; N B^2 in blocks of B",
        source="ours: leave-one-out kernel ridge regression with the neural tangent kernel",
        columns={"ntk_margin": "easier"},
    ),
    Method(
        name="ntk_residual",
        kind="score",
        module="prune_cli.methods.scores.kernel.ntk_margin",
        function="ntk_residual_scores",
        params="NtkParams",
        summary="how far the label is from what all other samples predict; as ntk_margin, without the other classes",
        cost="that of ntk_margin; nothing beside it",
        source="ours: leave-one-out kernel ridge regression with the neural tangent kernel",
        columns={"ntk_residual": "harder"},
    ),
    _of_record(
        "el2n",
        "El2nParams",
        "harder",
        "norm of the error softmax - onehot early in training, un-augmented",
        "a tenth of a training, or one model's probabilities",
        "Paul, Ganguli, Dziugaite, NeurIPS 2021, arXiv:2107.07075",
    ),
    _of_record(
        "grand",
        "GrandParams",
        "harder",
        "norm of the gradient of the loss over all parameters, early in training",
        "a tenth of a training, and three forward passes a sample, one by one",
        "Paul, Ganguli, Dziugaite, NeurIPS 2021, arXiv:2107.07075",
    ),
    _of_record(
        "forgetting",
        "ForgettingParams",
        "harder",
        "how often right became wrong; never right counts as the number of epochs",
        "one training",
        "Toneva et al., ICLR 2019, arXiv:1812.05159",
    ),
    _of_record(
        "aum",
        "AumParams",
        "easier",
        "area under the margin: mean over the epochs of the label's logit less the best other",
        "one training",
        "Pleiss et al., NeurIPS 2020, arXiv:2001.10528",
    ),
    _of_record(
        "dyn_unc",
        "DynUncParams",
        "harder",
        "mean over windows of epochs of the deviation of the label's probability",
        "one training",
        "He et al., 2024, arXiv:2306.05175",
    ),
    _of_record(
        "dual",
        "DualParams",
        "harder",
        "deviation of the label's probability times its difficulty, early in training",
        "30 epochs",
        "Cho et al., ICML 2025, arXiv:2502.06905",
        {"dual_mean": "easier"},
    ),
    _of_record(
        "tdds",
        "TddsParams",
        "harder",
        "how unevenly the probabilities move while a sample is learned",
        "90 epochs, and N x C numbers",
        "Zhang et al., CVPR 2024, arXiv:2311.13613",
    ),
    _of_record(
        "loss",
        "LossParams",
        "harder",
        "cross-entropy of the given label",
        "one training, or one model's probabilities",
        "the small-loss criterion, Han et al., NeurIPS 2018, arXiv:1804.06872",
    ),
    _of_record(
        "margin",
        "MarginParams",
        "easier",
        "probability of the label less that of the best other",
        "one training, or one model's probabilities",
        "Scheffer 2001; Northcutt et al., JAIR 2021, arXiv:1911.00068",
    ),
    _of_record(
        "entropy",
        "EntropyParams",
        "harder",
        "entropy of the probabilities",
        "one training, or one model's probabilities",
        "Shannon 1948; Settles 2009",
    ),
    _of_record(
        "confidence",
        "ConfidenceParams",
        "easier",
        "highest probability",
        "one training, or one model's probabilities",
        "Hendrycks, Gimpel, ICLR 2017, arXiv:1610.02136",
    ),
    Method(
        name="moderate",
        kind="score",
        module="prune_cli.methods.scores.features.geometry",
        function="moderate_scores",
        params="ModerateParams",
        summary="distance of the features to the median of the class",
        cost="N D",
        source="Xia et al., ICLR 2023",
        columns={"moderate": "harder"},
        needs="features",
    ),
    Method(
        name="prototype",
        kind="score",
        module="prune_cli.methods.scores.features.geometry",
        function="prototype_scores",
        params="PrototypeParams",
        summary="distance of the features to the nearest k-means centroid; needs no labels",
        cost="N D clusters iterations",
        source="Sorscher et al., NeurIPS 2022, arXiv:2206.14486",
        columns={"prototype": "harder"},
        needs="features",
    ),
    Method(
        name="zcore",
        kind="score",
        module="prune_cli.methods.scores.features.geometry",
        function="zcore_scores",
        params="ZcoreParams",
        summary="coverage of random subspaces of the features, less what neighbours cover too; needs no labels",
        cost="draws x log N, and the neighbours of each draw",
        source="Griffin, Marks, Corso, arXiv:2411.15349",
        columns={"zcore": "harder"},
        needs="features",
    ),
    Method(
        name="p_clean",
        kind="score",
        module="prune_cli.methods.scores.record.p_clean",
        function="p_clean_scores",
        params="PCleanParams",
        summary="how likely the label is right, by a run of a re-labeling recipe (--model RUN)",
        cost="reads the run's relabels.parquet",
        source="the recipe of the run",
        columns={"p_clean": "easier"},
        needs="relabels",
    ),
    Method(
        name="window",
        kind="selection",
        module="prune_cli.methods.selection.window.window",
        function="select_window",
        params="WindowParams",
        summary="the window of difficulty that a ridge proxy learns most from, for every budget in one pass (BWS)",
        cost="N D^2 + W (D^3 / 3 + 2 N D C) for the W windows of all budgets",
        source="Choi, Ki, Chung, ICML 2024, arXiv:2406.03057",
        uses=("score", "features", "labels"),
        nested=False,
        classes_itself=True,
        reads_blocks=True,
        in_blocks=True,
        aliases=("bws",),
    ),
    Method(
        name="best",
        kind="selection",
        module="prune_cli.methods.selection.best",
        function="select_best",
        params="BestParams",
        summary="of several methods the selection that the same proxy learns most from",
        cost="the methods, and the proxy for each",
        source="ours, with the proxy of BWS",
        uses=("score", "features", "labels"),
        nested=False,
        classes_itself=True,
        in_blocks=True,
        seeded=True,
    ),
    Method(
        name="random",
        kind="selection",
        module="prune_cli.methods.selection.baselines",
        function="random_order",
        params="RandomParams",
        summary="a uniformly random order: the rival to beat, always",
        cost="N log N",
        source="simple random sampling without replacement",
        uses=(),
        seeded=True,
    ),
    Method(
        name="top",
        kind="selection",
        module="prune_cli.methods.selection.baselines",
        function="top_order",
        params="TopParams",
        summary="the hardest or the easiest first, after an offset that skips the extreme",
        cost="N log N",
        source="the usual baseline; offset as in Sorscher 2022 and Zheng 2023",
        uses=("score",),
    ),
    Method(
        name="stratified",
        kind="selection",
        module="prune_cli.methods.selection.stratified",
        function="stratified_order",
        params="StratifiedParams",
        summary="even over the range of the score, without the very hardest (CCS)",
        cost="N log N",
        source="Zheng et al., ICLR 2023, arXiv:2210.15809",
        uses=("score",),
        nested=False,
        seeded=True,
        aliases=("ccs",),
    ),
    Method(
        name="moderate",
        kind="selection",
        module="prune_cli.methods.selection.baselines",
        function="moderate_order",
        params="ModerateParams",
        summary="the middle ranks of the distance to the class median first",
        cost="N D log N",
        source="Xia et al., ICLR 2023",
        uses=("features", "labels"),
    ),
    Method(
        name="dual",
        kind="selection",
        module="prune_cli.methods.selection.stratified",
        function="dual_order",
        params="DualParams",
        summary="drawn by the DUAL score and a Beta density that moves to the easy as less is kept",
        cost="N log N for each budget",
        source="Cho et al., ICML 2025, arXiv:2502.06905",
        uses=("score",),
        nested=False,
        seeded=True,
    ),
    Method(
        name="d2",
        kind="selection",
        module="prune_cli.methods.selection.coverage.message_passing",
        function="d2_order",
        params="D2Params",
        summary="difficulty shared between neighbors, each pick making its neighbors less wanted",
        cost="the neighbors (2 N^2 D flops up to 131,072 samples, N^1.5 D beyond), then N log N",
        source="Maharana, Yadav, Bansal, ICLR 2024, arXiv:2310.07931",
        uses=("score", "features"),
        in_blocks=True,
    ),
    Method(
        name="kcenter",
        kind="selection",
        module="prune_cli.methods.selection.coverage.coverage",
        function="k_center_order",
        params="KCenterParams",
        summary="farthest first: the least radius that covers all samples",
        cost="at most N k D for k picks, in practice a small part",
        source="Sener, Savarese, ICLR 2018, arXiv:1708.00489",
        uses=("features",),
    ),
    Method(
        name="facility_location",
        kind="selection",
        module="prune_cli.methods.selection.coverage.facility_location",
        function="facility_location_order",
        params="FacilityLocationParams",
        summary="what stands best for all samples, over nearest neighbors",
        cost="the neighbors (2 N^2 D flops up to 131,072 samples, N^1.5 D beyond), then N neighbors log N; by parts, for each",
        source="Mirzasoleiman, Bilmes, Leskovec, ICML 2020; parts: GreeDi, NIPS 2013, arXiv:1411.0541",
        uses=("features",),
        in_blocks=True,
    ),
    Method(
        name="graph_cut",
        kind="selection",
        module="prune_cli.methods.selection.coverage.coverage",
        function="graph_cut_order",
        params="GraphCutParams",
        summary="like all samples and unlike each other, over all pairs",
        cost="N D, and D for every gain brought up to date",
        source="Iyer et al., ALT 2021, arXiv:2006.15412",
        uses=("features",),
    ),
    Method(
        name="herding",
        kind="selection",
        module="prune_cli.methods.selection.coverage.coverage",
        function="herding_order",
        params="HerdingParams",
        summary="so that the mean of the chosen stays near the mean of all",
        cost="2 N D for each pick",
        source="Welling, ICML 2009",
        uses=("features",),
    ),
    Method(
        name="neighbor_confidence",
        kind="selection",
        module="prune_cli.methods.selection.confidence.neighbor_confidence",
        function="neighbor_confidence_order",
        params="NeighborConfidenceParams",
        summary="for wrong labels: what puts most confident neighbors around all samples (Prune4ReL)",
        cost="N^2 D flops for all pairs (about N^1.5 D with ivf) and 8 bytes an edge and direction, then a heap; by parts, for each",
        source="Park et al., NeurIPS 2023, arXiv:2311.01002; parts: GreeDi, NIPS 2013, arXiv:1411.0541",
        uses=("features", "probabilities"),
        classes_itself=True,
        asks_memory=True,
        in_blocks=True,
        aliases=("prune4rel",),
    ),
    Method(
        name="standard",
        kind="recipe",
        module="prune_cli.methods.training.recipes.standard",
        function="train_standard",
        params="StandardParams",
        summary="cross-entropy with SGD, nesterov momentum, cosine schedule, crop and flip",
        cost="steps x batch x 3 forward passes",
        source="He 2016, with label smoothing (Szegedy 2016) and cosine decay (Loshchilov 2017)",
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

_PRUNE4REL_SGD = {"lr": 0.02, "warmup_fraction": 0.0, "final_lr_fraction": 0.005}

PRESETS: Mapping[str, Mapping[Kind, Mapping[str, Mapping[str, Any]]]] = {
    "cg-paper": {"score": {"cg": {"ratio": 1.0, "repeats": 10}}},
    "cg-paper-cifar100": {"score": {"cg": {"ratio": 4.0, "repeats": 10}}},
    "fast": {"score": {"training": {"epochs": 20}}},
    "el2n-paper": {"score": {"training": {"epochs": 200, "runs": 10}, "el2n": {"epoch": 20}}},
    "dual-paper": {"score": {"training": {"epochs": 200}, "dual": {"epochs": 30, "window": 10, "terms": True}}},
    "tdds-paper": {"score": {"training": {"epochs": 200}, "tdds": {"epochs": 90, "window": 10}}},
    "bws-cifar10": {
        "score": {"training": {"epochs": 20}},
        "selection": {"window": {"step": 0.05, "ridge": 1.0, "bias": False, "scope": "global"}},
    },
    "prune4rel-cifar10n": {
        "selection": {"neighbor_confidence": {"tau": 0.975, "eta": 1.0}},
        "recipe": {
            "sop": {**_PRUNE4REL_SGD, "lr_u": 10.0, "lr_v": 100.0, "consistency": 0.9, "balance": 0.1},
            "dividemix": {
                **_PRUNE4REL_SGD,
                "warmup": 10,
                "lambda_u": 1.0,
                "threshold": 0.5,
                "temperature": 0.5,
                "mixup": 4.0,
            },
        },
    },
    "prune4rel-cifar100n": {
        "selection": {"neighbor_confidence": {"tau": 0.95, "eta": 1.0}},
        "recipe": {
            "sop": {**_PRUNE4REL_SGD, "lr_u": 1.0, "lr_v": 100.0, "consistency": 0.9, "balance": 0.1},
            "dividemix": {
                **_PRUNE4REL_SGD,
                "warmup": 30,
                "lambda_u": 1.0,
                "threshold": 0.5,
                "temperature": 0.5,
                "mixup": 4.0,
            },
        },
    },
    "prune4rel-webvision": {
        "selection": {"neighbor_confidence": {"tau": 0.95, "eta": 1.0}},
        "recipe": {
            "sop": {**_PRUNE4REL_SGD, "lr_u": 0.1, "lr_v": 1.0, "consistency": 0.9, "balance": 0.1},
        },
    },
    "prune4rel-clothing1m": {
        "selection": {"neighbor_confidence": {"tau": 0.8, "eta": 1.0}},
        "recipe": {
            "dividemix": {
                **_PRUNE4REL_SGD,
                "warmup": 1,
                "lambda_u": 0.1,
                "threshold": 0.5,
                "temperature": 0.5,
                "mixup": 0.5,
            },
        },
    },
    "prune4rel-imagenet": {
        "selection": {"neighbor_confidence": {"tau": 0.95, "eta": 100.0}},
    },
    "ccs-cifar10": {"selection": {"stratified": {"strata": 50, "mis_rate": "cifar10"}}},
    "ccs-cifar100": {"selection": {"stratified": {"strata": 50, "mis_rate": "cifar100"}}},
}
"""Preset name -> kind -> method -> parameters, each from a published table (methods.md says which values are recalled)."""

# Directions of scores that other tools write; ours are in the entries above.
_PUBLISHED_DIRECTIONS: Mapping[str, Direction] = {"cscore": "easier"}

TRAINING = "training"
"""Owner of the parameters that the scores of one training share."""


def training_params() -> type:
    """Return the parameter dataclass of the training that scores of a record share."""
    return getattr(importlib.import_module("prune_cli.methods.scores.record.dynamics"), "TrainingParams")  # type: ignore[no-any-return]  # noqa: B009


def methods_of(kind: Kind) -> dict[str, Method]:
    """Return the methods of one kind by name, in the order they are listed."""
    return {m.name: m for m in _METHODS if m.kind == kind}


def find_method(kind: Kind, name: str) -> Method:
    """Return the method of that kind and name.

    Raises:
        InputError: no such method; the cure lists those there are.
    """
    known = methods_of(kind)
    name = next((m.name for m in known.values() if name in m.aliases), name)
    if name not in known:
        raise InputError(f"unknown {kind} method '{name}'", f"use one of: {', '.join(known)}")
    return known[name]


EXPORTS: Mapping[str, tuple[str, str]] = {"onnx": ("prune_cli.methods.training.networks.onnx_export", "to_onnx")}
"""Format -> module and function that make a file of a trained network."""


def find_exporter(name: str) -> Callable[[Any, Any], bytes]:
    """Return what makes a file of a trained network's tensors and model, once the packages it needs are there.

    Raises:
        InputError: no such format.
        UnavailableError: its packages are missing.
    """
    if name not in EXPORTS:
        raise InputError(f"unknown format '{name}' to export to", f"use one of: {', '.join(EXPORTS)}")
    module = importlib.import_module(EXPORTS[name][0])
    module.require()
    return getattr(module, EXPORTS[name][1])  # type: ignore[no-any-return]


def preset_params(preset: str | None, kind: Kind, owners: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the preset's parameters for each of the owners that run; empty ones where it says nothing.

    Raises:
        InputError: no such preset, or it says nothing about any of them.
    """
    if preset is None:
        return {owner: {} for owner in owners}
    if preset not in PRESETS:
        raise InputError(f"unknown preset '{preset}'", f"use one of: {', '.join(PRESETS)}")
    found = {owner: dict(PRESETS[preset].get(kind, {}).get(owner, {})) for owner in owners}
    if not any(found.values()):
        meant = [f"{name} ({its_kind})" for its_kind, named in PRESETS[preset].items() for name in named]
        raise InputError(f"preset '{preset}' is for {', '.join(meant)}, not for {owners[0]}", "leave it out")
    return found


def published_direction(column: str) -> Direction | None:
    """Return the direction of a score column known by name, or None."""
    for method in _METHODS:
        if column in method.columns:
            return method.columns[column]
    return _PUBLISHED_DIRECTIONS.get(column)
