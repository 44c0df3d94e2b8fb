"""One page of HTML that holds all it shows."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from prune_cli import __version__


def page_html(values: Mapping[str, Any]) -> str:
    """Return the page. All text among the values is escaped but what was marked as safe by `safe_svg`.

    Args:
        values: ``title``, ``verdict``, ``verdict_class``, ``figures`` and ``sections`` of the template ``page.html``.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    folder = resources.files("prune_cli.io.pages") / "templates"
    template, style, script = ((folder / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    return environment.from_string(template).render(
        **values, style=Markup(style), script=Markup(script), script_hash=f"sha256-{digest}", version=__version__
    )


def safe_svg(svg: str) -> Any:
    """Return SVG that was drawn here, its texts escaped already, as what is not escaped again."""
    from markupsafe import Markup

    return Markup(svg)
