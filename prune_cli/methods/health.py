"""What works on this machine: heavy libraries are imported in a process of their own, which may die of it.

A library built for another processor or another CUDA ends the process that imports it, without an exception. So the question is put
to a child, package by package, and a child that died is followed by another that leaves that package out.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from prune_cli.core.progress import Progress, silent

PATIENCE_SECONDS = 300
_FACTS = "facts"


@dataclass
class Findings:
    """What the children found.

    Args:
        errors: module -> why it cannot be imported, None where it can.
        versions: module -> what it calls its version, where it does.
        facts: ``torch``, ``auto``, ``faiss``, ``matplotlib`` -> what each says of the machine; ``error`` where that failed.
    """

    errors: dict[str, str | None] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)


def examine_packages(modules: Sequence[str], progress: Progress = silent) -> Findings:
    """Return which modules can be imported, and what torch, faiss and matplotlib say of the machine.

    Args:
        modules: import names, in the order they are tried.
    Cost:
        The seconds that the imports take, once; nothing stays in this process.
    """
    findings = Findings()
    while any(module not in findings.errors for module in modules):
        left = [module for module in modules if module not in findings.errors]
        _ask_child(left, findings, lambda: progress("checking", len(findings.errors), len(modules)))
    return findings


def _ask_child(modules: Sequence[str], findings: Findings, advance: Callable[[], None]) -> None:
    """Let one child import the modules until it is done or dead; the module it died of counts as broken."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    program = f"from {__name__} import answer; answer()"
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", program, *modules],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
        assert child.stdout is not None
        timer = threading.Timer(PATIENCE_SECONDS, child.kill)
        timer.start()
        trying = modules[0]
        finished = False
        try:
            for line in child.stdout:
                told = json.loads(line)
                trying = told.get("trying", trying)
                if "error" in told:
                    findings.errors[told["module"]] = told["error"]
                    if told["version"] is not None:
                        findings.versions[told["module"]] = told["version"]
                    advance()
                if _FACTS in told:
                    findings.facts, finished = told[_FACTS], True
            code = child.wait()
        finally:
            too_slow = not timer.is_alive()
            timer.cancel()
            child.kill()
            child.wait()
        if finished:
            return
        said.seek(0)
        last = said.read().decode(errors="replace").strip().splitlines()[-1:]
        how = f"was not done after {PATIENCE_SECONDS} s" if too_slow else f"ended the process ({_ending(code)})"
        why = ": ".join([how, *last])
        if trying == _FACTS:
            findings.facts = {"torch": {"error": f"asking for its devices {why}"}}
            return
        findings.errors[trying] = f"importing it {why}"


def answer() -> None:
    """Import the modules named in the arguments and tell of each on standard output, a line of JSON each; then the facts."""
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)  # what a library prints goes elsewhere

        def tell(**told: Any) -> None:
            out.write(json.dumps(told, default=str) + "\n")
            out.flush()

        for name in sys.argv[1:]:
            tell(trying=name)
            error, version = None, None
            try:
                version = getattr(importlib.import_module(name), "__version__", None)
            except BaseException as raised:
                error = _in_a_line(raised)
            tell(module=name, error=error, version=version)
        tell(trying=_FACTS)
        tell(facts={name: _fact(ask) for name, ask in _FACTS_OF.items()})


def _fact(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return ask()
    except BaseException as raised:
        return {"error": _in_a_line(raised)}


def _torch_facts() -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {"cuda_build": torch.version.cuda, "threads": torch.get_num_threads(), "devices": []}
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(i)
            found["devices"].append({"name": torch.cuda.get_device_name(i), "free_bytes": int(free), "total_bytes": int(total)})
    elif torch.version.cuda is None:
        found["why_no_cuda"] = f"torch {torch.__version__} is built without CUDA"
    elif os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"}:
        found["why_no_cuda"] = "CUDA_VISIBLE_DEVICES hides every device"
    else:
        try:
            torch.cuda.init()  # type: ignore[no-untyped-call]
            found["why_no_cuda"] = "torch finds no device"
        except Exception as raised:
            found["why_no_cuda"] = _in_a_line(raised)
    return found


def _auto_facts() -> dict[str, Any]:
    from prune_cli.methods.devices import resolve_device
    from prune_cli.methods.training.networks.forward import choose_precision

    device = resolve_device("auto")
    return {"device": str(device), "training_precision": str(choose_precision("auto", device, True)).removeprefix("torch.")}


def _faiss_facts() -> dict[str, Any]:
    import faiss

    return {"gpus": faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0}


def _matplotlib_facts() -> dict[str, Any]:
    import matplotlib

    folder = matplotlib.get_cachedir()
    return {"cache": folder, "cache_is_kept": not os.path.basename(folder).startswith("matplotlib-")}  # noqa: PTH119


_FACTS_OF: dict[str, Callable[[], dict[str, Any]]] = {
    "torch": _torch_facts,
    "auto": _auto_facts,
    "faiss": _faiss_facts,
    "matplotlib": _matplotlib_facts,
}


def _in_a_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ": ".join([type(error).__name__, *lines[:1]])


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
