"""``prune doctor``: what is installed, what the machine has, what ``auto`` will choose, and whether all of it works."""

from __future__ import annotations

import dataclasses
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prune_cli import __version__
from prune_cli.core.distribution import NAME, Requirement, read_requirements
from prune_cli.core.progress import Progress, silent
from prune_cli.core.runtime import Runtime, available_memory, format_size
from prune_cli.methods.health import Findings, examine_packages
from prune_cli.stages.frame.outcome import Outcome

_SHOWN_VARIABLES = re.compile(r"(OMP|PRUNE)_.*|CUDA_VISIBLE_DEVICES|NO_COLOR")
"""Variables whose values are shown; a report is pasted in public, so no others are."""


@dataclass(frozen=True)
class Check:
    """One thing that was tried.

    Args:
        verdict: ``failed`` where prune cannot work, ``note`` where it does with less.
        cure: what to do, where something is to be done.
    """

    name: str
    verdict: Literal["ok", "note", "failed"]
    found: str
    cure: str | None = None


def examine(progress: Progress = silent) -> Outcome:
    """Examine the installation and the machine.

    Returns:
        Outcome whose tables are the result; its verdict is False where a check of the core failed.
    """
    required, extras = read_requirements()
    findings = examine_packages([r.module for r in required], progress)
    runtime = Runtime()
    torch, auto = findings.facts.get("torch", {}), findings.facts.get("auto", {})
    summary: dict[str, Any] = {
        "command": "doctor",
        "versions": {
            "python": platform.python_version(),
            "prune": __version__,
            **{r.package: r.installed or findings.versions.get(r.module) for r in required},
        },
        "machine": {
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "interpreter": sys.executable,
            "cores": runtime.worker_count(),
            "free_memory_bytes": available_memory(),
            "free_disk_bytes": shutil.disk_usage(".").free,
            "cuda": torch.get("devices", []),
            "why_no_cuda": torch.get("why_no_cuda", torch.get("error")),
        },
        "auto": {
            "device": auto.get("device"),
            "training_precision": auto.get("training_precision"),
            "workers": runtime.worker_count(),
            "threads": torch.get("threads"),
            "memory_limit_bytes": runtime.memory_budget(),
        },
        "extras": {name: _extra(name, needed) for name, needed in extras.items()},
        "environment": {k: v for k, v in sorted(os.environ.items()) if _SHOWN_VARIABLES.fullmatch(k)},
    }
    installed = Check("installation", "ok", f"{NAME} {__version__}")
    if not required:
        installed = Check("installation", "failed", f"no distribution {NAME} is installed here", f"pip install {NAME}")
    checks = [installed, *_packages(required, findings), _gpu(torch), *_folders(findings), _command()]
    summary["checks"] = [dataclasses.asdict(check) for check in checks]
    summary["healthy"] = all(check.verdict != "failed" for check in checks)
    summary = _without_home(summary)
    return Outcome(summary=summary, results=_tables(summary), verdict=summary["healthy"])


def _packages(required: list[Requirement], findings: Findings) -> list[Check]:
    checks = []
    for requirement in required:
        error = findings.errors.get(requirement.module)
        name, again = f"import {requirement.module}", f"pip install --force-reinstall '{requirement.wanted}'"
        version = requirement.installed or findings.versions.get(requirement.module) or ""
        if error is not None and requirement.installed is None:
            check = Check(name, "failed", f"{requirement.package} is not installed", f"pip install '{requirement.wanted}'")
        elif error is not None:
            check = Check(name, "failed", f"{requirement.package} {version} is broken: {error}", again)
        elif requirement.installed is None:
            check = Check(name, "note", f"{version} works, installed under another name than {requirement.package}")
        elif not requirement.fits:
            check = Check(name, "failed", f"{version} is not {requirement.wanted}", f"pip install '{requirement.wanted}'")
        else:
            check = Check(name, "ok", version)
        checks.append(check)
    return checks


def _gpu(torch: Mapping[str, Any]) -> Check:
    if torch.get("devices"):
        return Check("torch sees a GPU", "ok", f"{len(torch['devices'])}, CUDA {torch['cuda_build']}")
    why = torch.get("why_no_cuda") or torch.get("error") or "torch cannot be asked"
    return Check("torch sees a GPU", "note", why, "nothing, for a machine without one; else see https://pytorch.org")


def _folders(findings: Findings) -> list[Check]:
    temporary, here = Path(tempfile.gettempdir()), Path()
    checks = [
        Check("temporary files", "ok", f"{temporary} can be written to")
        if _can_write(temporary)
        else Check("temporary files", "failed", f"{temporary} cannot be written to", "set TMPDIR to a folder that can"),
        Check("current folder", "ok", "can be written to")
        if _can_write(here)
        else Check("current folder", "note", "cannot be written to", "name outputs elsewhere with -o"),
    ]
    cache = findings.facts.get("matplotlib", {})
    if "cache" in cache:
        kept = cache["cache_is_kept"]
        cure = None if kept else "set MPLCONFIGDIR to a folder that can be written to: drawing starts faster"
        found = f"{cache['cache']} can be written to" if kept else "cannot be written to, and is made anew each time"
        checks.append(Check("matplotlib's cache", "ok" if kept else "note", found, cure))
    return checks


def _command() -> Check:
    """Return whether the shell finds this program under its name: graphviz has a ``prune`` too."""
    found = shutil.which("prune")
    if found is None:
        return Check("command prune", "note", "not on the PATH", "python -m prune_cli is the same")
    try:
        ours = b"prune_cli" in Path(found).read_bytes()[:4096]
    except OSError:
        ours = False
    if ours:
        return Check("command prune", "ok", found)
    return Check("command prune", "note", f"{found} is another program", "use prune-cli, or put this one's folder first")


def _can_write(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"prune")
            file.flush()
    except OSError:
        return False
    return True


def _extra(name: str, needed: list[Requirement]) -> dict[str, Any]:
    missing = [r.wanted for r in needed if not r.fits]
    return {
        "installed": not missing,
        "packages": {r.package: r.installed for r in needed},
        "install": f"pip install '{NAME}[{name}]'" if missing else None,
    }


def _without_home(value: Any) -> Any:
    """Return JSON values with the home folder shortened to ``~`` in every text: a report is pasted in public."""
    if isinstance(value, dict):
        return {k: _without_home(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_home(v) for v in value]
    if not isinstance(value, str):
        return value
    home = Path.home()
    for folder in {str(home), str(home.resolve())} - {"/"}:
        value = re.sub(rf"{re.escape(folder)}(?![\w.-])", "~", value)
    return value


def _tables(summary: Mapping[str, Any]) -> dict[str, list[list[str]]]:
    machine, auto = summary["machine"], summary["auto"]
    cuda = [f"{d['name']}, {format_size(d['free_bytes'])} of {format_size(d['total_bytes'])} free" for d in machine["cuda"]]
    tables = {
        "versions": [["package", "version"], *([k, v or "missing"] for k, v in summary["versions"].items())],
        "machine": [
            ["what", "found"],
            ["system", machine["system"]],
            ["interpreter", machine["interpreter"]],
            ["cores", str(machine["cores"])],
            ["free memory", format_size(machine["free_memory_bytes"])],
            ["free disk here", format_size(machine["free_disk_bytes"])],
            ["CUDA", "\n".join(cuda) or f"none: {machine['why_no_cuda']}"],
        ],
        "what is chosen when nothing is said": [
            ["option", "value"],
            ["--device", auto["device"] or "unknown"],
            ["--precision of training", auto["training_precision"] or "unknown"],
            ["--workers", str(auto["workers"])],
            ["--memory-limit", format_size(auto["memory_limit_bytes"])],
            ["threads of torch", str(auto["threads"] or "unknown")],
        ],
        "extras": [["extra", "state"], *([name, "installed" if e["installed"] else e["install"]] for name, e in summary["extras"].items())],
        "variables that are set": [["variable", "value"], *([k, v] for k, v in summary["environment"].items())],
        "checks": [
            ["check", "verdict", "found", "cure"],
            *([c["name"], c["verdict"], c["found"], c["cure"] or ""] for c in summary["checks"]),
        ],
    }
    return {title: rows for title, rows in tables.items() if len(rows) > 1}
