"""HTML pages that need no other file. Their templates lie beside the modules that fill them; `page.html` has what all share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sfxjax.text import printable


def render_page(template: Path, **values: Any) -> str:
    """Return a page, or a part of one, with every text in it printable and escaped.

    Args:
        template: a jinja2 template. It can extend `page.html` and use the templates beside it.
        **values: what the template names.

    Raises:
        jinja2.UndefinedError: the template names a value that is not given.
    """
    # Screening without a report does without jinja2.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(values)


def _shown(value: Any) -> Any:
    """Return a value as it is shown; what a macro made is HTML, whose texts have been through here."""
    return value if hasattr(value, "__html__") else printable(str(value))
