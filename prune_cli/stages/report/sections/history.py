"""What was done: the files as a graph, from what each says it was made of."""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from prune_cli.io.pages.drawing import short
from prune_cli.stages.report.files import ReportFile
from prune_cli.stages.report.sections.section import Details, Drawing, Section, Table

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _EDGE = 190, 54, 60, 16, 8
_SHOWN = 60
"""Files beyond this many are in the table alone."""


def history_section(files: Sequence[ReportFile]) -> Section:
    """Return the graph of the files, those named as inputs and not given among them, and the same as a table."""
    section = Section("history", "What was done")
    nodes, edges = _graph(files)
    if len(nodes) <= _SHOWN:
        section.blocks.append(_drawn(nodes, edges))
    rows = []
    for file in files:
        stated = file.stated
        rows.append(
            (
                file.name, _made(file), ", ".join(dict.fromkeys(_input_names(stated))),
                str(stated.get("seed", "")), f"{stated['rows_out']:,} of {stated['rows_in']:,}" if stated else "",
            )
        )  # fmt: skip
    section.blocks.append(Table("files", ("file", "made by", "of", "seed", "rows"), rows, (3, 4)))
    section.blocks += [Details(f"{file.name}: all parameters", _parameters(file)) for file in files if file.stated]
    versions = {f"{k} {v}" for file in files for k, v in file.stated.get("versions", {}).items()}
    if versions:
        section.blocks.append(f"Made with {', '.join(sorted(versions))}.")
    return section


def _parameters(file: ReportFile) -> list[str]:
    return [f"{k} = {json.dumps(v, sort_keys=True)}" for k, v in sorted(file.stated.get("parameters", {}).items())]


def _made(file: ReportFile) -> str:
    if not file.stated:
        return f"{file.kind}, not by prune"
    return f"prune {file.stated.get('command', '?')}, {file.stated.get('method', '?')}"


def _input_names(stated: dict[str, Any]) -> list[str]:
    """Return the names of inputs; the files of a run folder are the folder."""
    return [str(one["name"]).split("/")[0] for one in stated.get("inputs", [])]


def _graph(files: Sequence[ReportFile]) -> tuple[dict[str, tuple[int, ReportFile | None]], list[tuple[str, str]]]:
    """Return name -> (layer, file or None where it was not given), and the edges from inputs to outputs."""
    # an input is the file of the same content; one of the same name and another content is another version, and not given
    counts = Counter(file.name for file in files)
    names = [f"{f.name} ({n})" if counts[f.name] > 1 else f.name for n, f in enumerate(files, start=1)]
    given = dict(zip(names, files, strict=True))
    by_content = {one.sha256: name for name, file in given.items() for one in file.inputs}
    edges = []
    for name, file in given.items():
        for one in file.stated.get("inputs", []):
            stated = str(one["name"]).split("/")[0]
            other = f"{stated}, another version" if stated in counts else stated
            edges.append((by_content.get(one["sha256"], other), name))
    edges = [(a, b) for a, b in dict.fromkeys(edges) if a != b]
    layer = dict.fromkeys([*given, *(a for a, _ in edges)], 0)
    for _ in range(len(layer)):
        changed = False
        for a, b in edges:
            if layer[b] <= layer[a] < len(layer):
                layer[b], changed = layer[a] + 1, True
        if not changed:
            break
    for name in layer:  # what is not given stands right before what it went into
        if name not in given:
            layer[name] = min(layer[b] for a, b in edges if a == name) - 1
    return {name: (place, given.get(name)) for name, place in layer.items()}, edges


def _drawn(nodes: dict[str, tuple[int, ReportFile | None]], edges: Sequence[tuple[str, str]]) -> Drawing:
    columns: dict[int, list[str]] = {}
    for name, (layer, _) in nodes.items():
        columns.setdefault(layer, []).append(name)
    parents = {name: [a for a, b in edges if b == name] for name in nodes}
    place: dict[str, tuple[int, int]] = {}
    for layer in sorted(columns):
        columns[layer].sort(key=lambda name: (sum(place[p][1] for p in parents[name] if p in place) / (len(parents[name]) or 1), name))
        for row, name in enumerate(columns[layer]):
            place[name] = (_EDGE + layer * (_WIDTH + _GAP_X), _EDGE + row * (_HEIGHT + _GAP_Y))
    width = 2 * _EDGE + (max(columns) + 1) * (_WIDTH + _GAP_X) - _GAP_X
    height = 2 * _EDGE + max(map(len, columns.values())) * (_HEIGHT + _GAP_Y) - _GAP_Y
    size = f'viewBox="0 0 {width} {height}" style="min-width: {min(width, 900)}px"'
    parts = [f'<svg class="graph" {size} role="img" aria-label="graph of the files">']
    for a, b in edges:
        (xa, ya), (xb, yb) = place[a], place[b]
        xa, ya, yb = xa + _WIDTH, ya + _HEIGHT // 2, yb + _HEIGHT // 2
        bend = (xb - xa) // 2
        parts.append(f'<path class="edge" d="M{xa} {ya} C{xa + bend} {ya} {xb - bend} {yb} {xb} {yb}"/>')
    for name, (_, file) in nodes.items():
        parts.append(_node(name, file, *place[name]))
    parts.append("</svg>")
    words = "; ".join(f"{b} from {a}" for a, b in edges) or "no file names another"
    return Drawing("\n".join(parts), f"Graph of the files: {words}.")


def _node(name: str, file: ReportFile | None, x: int, y: int) -> str:
    if file is None:
        kind, told = "not given", f"{name}: named as an input, not among the files of this page"
    else:
        kind = f"{_made(file).removeprefix('prune ')}"
        told = "\n".join([name, _made(file), *_parameters(file)][:40])
    digest = f" · {file.inputs[0].sha256[:8]}" if file is not None and file.inputs else ""
    box = "node" if file is not None else "node ghost"
    return (
        f'<g class="{box}" tabindex="0"><title>{html.escape(told)}</title>'
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="8"/>'
        f'<text x="{x + 12}" y="{y + 23}" class="name">{html.escape(short(name, 24))}</text>'
        f'<text x="{x + 12}" y="{y + 41}" class="kind">{html.escape(short(kind, 15) + digest)}</text></g>'
    )
