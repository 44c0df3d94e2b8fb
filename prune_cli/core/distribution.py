"""What the installed distribution says of itself: the packages it needs, and those of its extras."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement as Parsed

NAME = "prune-cli"
DEVELOPING = "dev"
"""The extra of those who work on prune itself."""

_MODULES = {"pillow": "PIL", "scikit-learn": "sklearn", "faiss-gpu": "faiss", "faiss-cpu": "faiss"}


@dataclass(frozen=True)
class Requirement:
    """One package that is needed.

    Args:
        package: its name in the registry.
        wanted: as it is installed: ``torch>=2.7``.
        installed: its version, None where it is missing.
        fits: whether that version is one of those wanted.
    """

    package: str
    wanted: str
    installed: str | None
    fits: bool

    @property
    def module(self) -> str:
        """Return the name it is imported by."""
        return _MODULES.get(self.package, self.package.replace("-", "_"))


def read_requirements() -> tuple[list[Requirement], dict[str, list[Requirement]]]:
    """Return what a plain install needs on this machine, and what each extra adds; nothing where prune is not installed."""
    from packaging.requirements import Requirement as Parsed

    try:
        stated = importlib.metadata.metadata(NAME)
    except importlib.metadata.PackageNotFoundError:
        return [], {}
    parsed = [Parsed(text) for text in stated.get_all("Requires-Dist") or ()]
    plain = [_looked_up(p) for p in parsed if p.marker is None or p.marker.evaluate({"extra": ""})]
    extras = {}
    for extra in stated.get_all("Provides-Extra") or ():
        if extra != DEVELOPING:
            own = [p for p in parsed if p.marker is not None and not p.marker.evaluate({"extra": ""})]
            extras[extra] = [_looked_up(p) for p in own if p.marker is not None and p.marker.evaluate({"extra": extra})]
    return plain, extras


def _looked_up(parsed: Parsed) -> Requirement:
    try:
        installed: str | None = importlib.metadata.version(parsed.name)
    except importlib.metadata.PackageNotFoundError:
        installed = None
    fits = installed is not None and parsed.specifier.contains(installed, prereleases=True)
    return Requirement(parsed.name, f"{parsed.name}{parsed.specifier}", installed, fits)
