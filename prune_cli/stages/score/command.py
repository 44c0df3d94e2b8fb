"""``prune score``: a data manifest in, a score manifest out."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress, silent
from prune_cli.engines.pool import Pool
from prune_cli.io.ids.columns import canonical_order
from prune_cli.io.manifests.data import Dataset
from prune_cli.io.manifests.ledger import Ledger, ledger_path, settle
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.parquet.tables import STDIN
from prune_cli.io.runs.events import EventFolder
from prune_cli.io.runs.finished import BlockFolder
from prune_cli.io.runs.folder import read_run
from prune_cli.io.stores.atomic import check_output
from prune_cli.io.stores.locations import local_twin, require_local, work_folder
from prune_cli.methods.devices import device_name, resolve_device
from prune_cli.methods.registry.lookup import TRAINING, find_method
from prune_cli.methods.scores.kernel.kernels import parse_kernel
from prune_cli.methods.scores.kernel.neural_tangents import require
from prune_cli.methods.scores.record.dynamics import Record, TrainingParams, record_of_logits, record_of_probabilities
from prune_cli.methods.training.networks.architectures import default_architecture
from prune_cli.methods.training.networks.predict import BATCH_SIZE, Look, Prediction, predict
from prune_cli.stages.evaluate.command import as_trained
from prune_cli.stages.frame.engine import open_engine
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome
from prune_cli.stages.score.inputs import SPOOL, LoadedInputs, augmentation_of, load_score_inputs
from prune_cli.stages.score.options import RECIPE, ScoreOptions, Sources, parameters_of, sources_of
from prune_cli.stages.score.plan import score_estimate
from prune_cli.stages.score.shards import (
    compute_kernel_shard,
    default_output,
    require_divisible,
    rows_of_shard,
    write_kernel_shard,
    write_row_shard,
)
from prune_cli.stages.score.sources.files import score_record, score_relabels, write_scores
from prune_cli.stages.score.sources.kernel.plan import (
    PROCESS_BYTES,
    kernel_workers,
    refuse_large_pictures,
    require_room,
)
from prune_cli.stages.score.sources.kernel.scores import kernel_scores
from prune_cli.stages.score.sources.kernel.work import KernelWork
from prune_cli.stages.score.sources.looks import look_on_engine
from prune_cli.stages.score.sources.record import (
    Model,
    TrainingSpec,
    average_scores,
    codes_seen,
    fit_model,
    look_with,
    read_model,
    record_facts,
    records_of_runs,
    remove_runs,
    require_record_memory,
    save_dynamics,
    train_records,
    write_features,
)
from prune_cli.stages.score.stated import kernel_files, model_files, score_directions, stated_parameters
from prune_cli.stages.train.reporting import event_folder

PACKAGES = ("numpy", "torch", "pyarrow", "pillow")
NETWORK_PACKAGES = ("neural-tangents", "jax")


def score(options: ScoreOptions, progress: Progress = silent) -> Outcome:
    """Score every row of a data manifest, or of a dynamics record.

    Returns:
        Outcome whose output is a score manifest: ``id``, ``label``, one float64 column per score.
    Raises:
        InputError: bad input or options; nothing is written.
        BadRowsError: more bad rows than allowed; the ledger alone is written.
        InterruptedRun: stopped by the user; finished work is kept.
    """
    watch = Stopwatch()
    outcome = Outcome()
    if options.model is not None:
        require_local(options.model, "--model")
    params = parameters_of(options)
    if options.from_dynamics is not None:
        return score_record(options, params, outcome, watch)
    if any(find_method("score", name).needs == "relabels" for name in options.methods):
        return score_relabels(options, outcome, watch)
    if options.data is None:
        raise InputError("DATA is missing", "name a Parquet file, or a record with --from-dynamics")
    found_model = read_model(options.model, options.weights) if options.model is not None else None
    if options.weights is not None and options.model is None:
        raise InputError("--weights is given without --model", "say which network: --model torchvision:resnet18")
    data = options.data
    channels: Literal["auto", 1, 3] = "auto"
    if isinstance(found_model, Model):
        data, channels = as_trained(options.data, read_run(Path(str(options.model))))
    dataset = Dataset(data)
    sources = sources_of(options, params, dataset)
    require_divisible(options, sources)
    output = options.output or f"{dataset.source.stem}.scores.parquet"
    if options.shard is not None and options.output is None:
        output = default_output(dataset.source.stem, options.shard)
    if not options.plan:
        for path in (output, options.save_dynamics, options.save_features, options.save_kernel):
            if path is not None:
                check_output(path, options.force)
    if dataset.ids_made_up:
        outcome.warnings.append(f"no column '{data.id_column}': ids are the positions, row-00000000 and on")
    labels = dataset.labels
    empty = [
        name
        for name, count in zip(
            labels.display_names(),
            np.bincount(labels.codes_n[labels.codes_n >= 0], minlength=len(labels.classes)),
            strict=True,
        )
        if count == 0
    ]
    if empty:
        outcome.warnings.append(f"{len(empty)} class(es) have no row here: {', '.join(empty[:5])}")
    if (sources.record == "training" or sources.kernels) and len(labels.classes) - len(empty) < 2:
        raise InputError(
            f"scores compare each class with the others, and the data has samples of {len(labels.classes) - len(empty)} class(es)",
            "give data of two classes or more, or check --label-column",
        )

    events = _event_folder(options, output, dataset) if sources.record == "training" else None
    spec = _training_spec(options, sources, dataset, events) if sources.record == "training" else None
    if options.report_to is not None and spec is None:
        raise InputError("--report-to is given and nothing here trains", "leave it out")
    names = {parse_kernel(params.kernel).network for params in sources.kernels.values()}
    networked = options.load_kernel is None and names - {None} != set()
    if networked:
        require()
    if sources.kernels:
        refuse_large_pictures(dataset, options.force)
    estimate = score_estimate(dataset, sources, spec, options)
    if options.plan:
        return plan_outcome("score", estimate)
    if sources.kernels:
        require_room(estimate, options.work_dir or local_twin(output).parent, options.runtime)
    if spec is not None:
        require_record_memory(spec, len(dataset), len(labels.classes))

    ahead = _kernels_ahead(options, output, estimate) if sources.kernels and not networked else nullcontext()
    with ahead as started, _work_folder(options, output) as folder:
        resolve_device(options.runtime.device)  # which loads torch, as the processes do meanwhile
        ledger = Ledger()
        within = np.arange(len(dataset))
        if options.shard is not None and not sources.kernels:
            within = rows_of_shard(options.shard, len(dataset), options.runtime.batch_size or BATCH_SIZE)
        ledger.add_all(within[labels.codes_n[within] < 0], "missing label")
        model: Model | None = None
        if found_model is not None and _looks_elsewhere(options, sources):
            head = dataset.load_inputs(Ledger(), rows=np.arange(min(len(dataset), 64)), channels=channels)
            model = fit_model(found_model, head.shape[1:])
            loaded = _look_elsewhere(options, sources, dataset, model, within, ledger, folder, progress)
        else:
            loaded = load_score_inputs(dataset, sources, channels, ledger, folder, options.runtime, progress, within)
        rows = loaded.rows
        provenance = Provenance(
            command="score",
            method=",".join(options.methods),
            parameters=stated_parameters(options, sources, spec, data),
            seed=options.runtime.seed,
            inputs=(*dataset.source.inputs, *model_files(found_model), *kernel_files(options, sources)),
            device=device_name(options.runtime.device),
            packages=(*PACKAGES, *(NETWORK_PACKAGES if networked else ())),
            score_direction=score_directions(sources),
            rows={"rows_in": len(within), "rows_out": len(rows), "rows_bad": len(ledger)},
        )
        errors = ledger_path(output, f"{dataset.source.stem}.scores")
        settle(ledger, dataset.ids, data.max_errors, errors, provenance)
        if len(ledger):
            outcome.warnings.append(f"{len(ledger)} bad row(s) left out, listed in {errors}")
        ids, kept_labels = dataset.ids.take(pa.array(rows)), labels.take(rows)
        note = outcome.warnings.append

        columns: dict[str, np.ndarray] = {}
        facts: dict[str, Any] = {}
        records: list[Record] = []
        prediction: Prediction | None = None
        classes: pa.Array | None = pa.array(list(labels.classes), labels.type)
        finals: list[Path] = []
        kernel_stated: dict[str, dict[str, Any]] = {}
        features_found: tuple[np.ndarray, np.ndarray] | None = None
        if sources.kernels:
            assert folder is not None
            work = KernelWork(
                loaded.array(),
                kept_labels.codes_n,
                ids,
                sources.kernels,
                options.runtime,
                folder,
                provenance,
                options.save_kernel,
                options.load_kernel,
                predictions=sources.features == "kernel",
                shard=options.shard,
            )
            with open_engine(options.runtime, PROCESS_BYTES + loaded.array().nbytes, started) as engine:
                part = compute_kernel_shard(work, engine, progress) if options.shard is not None else None
                of_kernel = part.found if part is not None else kernel_scores(work, engine, progress)
            if part is not None:
                write_kernel_shard(part, work, kept_labels, output, dataset.source)
            columns, facts, kernel_stated = of_kernel.columns, of_kernel.facts, of_kernel.stated
            outcome.warnings.extend(of_kernel.warnings)
            if of_kernel.probs_nc is not None and of_kernel.embeddings_nd is not None:
                features_found = (of_kernel.embeddings_nd, of_kernel.probs_nc)
        if spec is not None:
            assert loaded.inputs is not None
            inputs = loaded.inputs
            if isinstance(inputs, np.ndarray) and inputs.dtype == np.float64:
                inputs = inputs.astype(np.float32)
            finals = train_records(spec, dataset, inputs, rows, folder or Path(), provenance, progress, note)
            records = records_of_runs(finals)
            if sources.features == "training":
                run = read_run(finals[0])
                prediction = predict(
                    run.tensors,
                    run.model,
                    inputs,
                    runtime=options.runtime,
                    look=Look(
                        embeddings=True,
                        **augmentation_of(sources, dataset, rows, inputs.shape[1:], options.runtime.seed),
                    ),
                    progress=progress,
                    note=note,
                )
        elif found_model is not None:
            if model is None:
                assert loaded.inputs is not None
                model = fit_model(found_model, tuple(loaded.inputs.shape[1:]))
            seen = codes_seen(model, kept_labels, data.location, sources.of("record"))
            prediction = loaded.prediction
            if prediction is None:
                assert loaded.inputs is not None
                prediction = look_with(
                    model,
                    loaded.inputs,
                    seen,
                    sources.of("record"),
                    options.runtime,
                    progress,
                    note,
                    places_n=rows,
                    embeddings=sources.features == "model",
                )
            if seen is not None:
                records = [record_of_logits(prediction.logits_nc, seen, prediction.gradient_norms_n)]
            shape = () if loaded.inputs is None else loaded.inputs.shape[1:]
            augmented = augmentation_of(sources, dataset, rows, shape, options.runtime.seed)
            if sources.features == "model" and augmented:  # the record is of the pictures as they are
                assert loaded.inputs is not None
                prediction = predict(
                    model.tensors,
                    model.model,
                    loaded.inputs,
                    runtime=options.runtime,
                    look=Look(embeddings=True, **augmented),
                    progress=progress,
                    note=note,
                )
            if model.classes is not None:
                classes = pa.array(list(model.classes))
            elif seen is None:
                classes = None
        elif sources.record == "prob":
            assert loaded.probs_nc is not None
            records = [record_of_probabilities(loaded.probs_nc, kept_labels.codes_n)]
        stated = dict(provenance.parameters)
        for name, more in kernel_stated.items():
            stated[name] = {**stated[name], **more}
        for name, method_params in sources.of("record").items():
            assert sources.record is not None
            columns |= average_scores(sources.methods[name], method_params, records)
            stated[name] = {**stated[name], **record_facts(name, method_params, records, sources.record)}
        if geometry := sources.of("features"):
            features_nd = prediction.embeddings_nd if prediction is not None else loaded.features_nd
            assert features_nd is not None
            for name, method_params in geometry.items():
                columns |= sources.methods[name].load()(
                    features_nd,
                    kept_labels.codes_n,
                    method_params,
                    order_n=canonical_order(ids),
                    seed=options.runtime.seed,
                    device=options.runtime.device,
                    progress=progress,
                )
                stated[name] = {**stated[name], "source": sources.features}
        provenance = dataclasses.replace(provenance, parameters=stated)

        if options.save_dynamics is not None:
            save_dynamics(finals, options.save_dynamics, provenance)
        if options.save_features is not None:
            if features_found is None:
                assert prediction is not None and prediction.embeddings_nd is not None
                features_found = (prediction.embeddings_nd, prediction.probs_nc())
            embeddings_nd, probs_nc = features_found
            write_features(options.save_features, ids, embeddings_nd, probs_nc, classes, provenance)
        if options.shard is None:
            write_scores(output, ids, kept_labels.values(), columns, provenance, dataset.source, outcome)
        elif not sources.kernels:
            write_row_shard(options.shard, columns, rows, dataset.ids, labels, provenance, output, dataset.source)
    outcome.outputs = [output]
    extra = {"features": options.save_features, "dynamics": options.save_dynamics, "kernel": options.save_kernel}
    outcome.summary = {
        "command": "score",
        "output": output,
        **{name: str(path) for name, path in extra.items() if path is not None},
        "method": provenance.method,
        **provenance.rows,
        **facts,
        **({"shard": list(options.shard)} if options.shard is not None else {}),
        **({"epochs": spec.stop_epoch, "runs": spec.params.runs} if spec is not None else {}),
        **({"flops": float(estimate["flops"])} if "flops" in estimate else {}),
        **({"events": str(events.path)} if events is not None else {}),
        "device": provenance.device,
        **watch.figures(),
    }
    return outcome


def _looks_elsewhere(options: ScoreOptions, sources: Sources) -> bool:
    """Return whether a network that exists looks at the samples on the engine: as they are, and nothing else needs them here."""
    whole = sources.kernels or sources.of("features") or sources.params[TRAINING].augment != "none"
    return options.runtime.engine != "local" and not whole


def _look_elsewhere(
    options: ScoreOptions,
    sources: Sources,
    dataset: Dataset,
    model: Model,
    within: np.ndarray,
    ledger: Ledger,
    folder: Path | None,
    progress: Progress,
) -> LoadedInputs:
    of_record, data = sources.of("record"), dataset.options
    identity = {
        "inputs": [i.sha256 for i in (*dataset.source.inputs, *model.inputs)],
        "versions": Provenance("score", "", {}, 0, (), packages=PACKAGES).to_dict()["versions"],
        "data": data.identity(),
        "precision": options.runtime.precision,
        "looks": [sources.features == "model", getattr(of_record.get("grand"), "variant", None)],
    }
    with open_engine(options.runtime) as engine:
        rows, prediction = look_on_engine(
            dataset,
            model,
            codes_seen(model, dataset.labels, data.location, of_record),
            within,
            ledger,
            engine,
            BlockFolder(folder or Path(), identity),
            options.runtime,
            embeddings=sources.features == "model",
            gradients=getattr(of_record.get("grand"), "variant", None),
            progress=progress,
        )
    return LoadedInputs(rows, prediction=prediction)


def _training_spec(
    options: ScoreOptions, sources: Sources, dataset: Dataset, events: EventFolder | None
) -> TrainingSpec:
    params: TrainingParams = sources.params[TRAINING]
    head = dataset.load_inputs(Ledger(), rows=np.arange(min(len(dataset), 64)), as_float32=True)
    return TrainingSpec(
        params=params,
        recipe=sources.params[RECIPE],
        architecture=options.architecture or default_architecture(head.shape[1:]),
        methods=sources.of("record"),
        save_dynamics=options.save_dynamics is not None,
        full=options.save_dynamics is not None or not sources.of("record"),
        runtime=options.runtime,
        checkpoint_seconds=options.checkpoint_seconds,
        events=events,
    )


def _event_folder(options: ScoreOptions, output: str, dataset: Dataset) -> EventFolder | None:
    """Return where events go, once it is sure that they may; a training that is gone on from has some already."""
    beside = output if output != STDIN else f"{dataset.source.stem}.scores.parquet"
    events = event_folder(options.report_to, local_twin(beside))
    if events is not None and not options.plan:
        events.check(replace=options.force or _work_path(options, output).is_dir())
    return events


def _work_path(options: ScoreOptions, output: str) -> Path:
    return options.work_dir or work_folder(output)


def _kernels_ahead(
    options: ScoreOptions, output: str, estimate: Mapping[str, Any]
) -> AbstractContextManager[Pool | None]:
    """Return processes that get ready now, unless blocks are given or some may be finished already."""
    kept = options.work_dir is not None or output != STDIN
    if options.load_kernel is not None or (kept and _work_path(options, output).exists()):
        return nullcontext()
    return kernel_workers(estimate, options.runtime, options.shard[1] if options.shard is not None else 1)


@contextmanager
def _work_folder(options: ScoreOptions, output: str) -> Iterator[Path | None]:
    """Yield where finished work is kept: it stays after an error, and goes when the output is whole, unless it was named."""
    if options.work_dir is None and output == STDIN:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
        return
    folder = _work_path(options, output)
    try:
        yield folder
    finally:
        shutil.rmtree(folder / SPOOL, ignore_errors=True)  # inputs on their way
        with suppress(OSError):
            folder.rmdir()  # where nothing else is in it
    if options.work_dir is None:
        BlockFolder(folder, {}).remove()
        remove_runs(folder)
