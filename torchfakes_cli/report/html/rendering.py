"""Templates filled with what may come from a stranger: everything is escaped, nothing is loaded, little may run."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from torchfakes_cli.report.summary import CAVEAT, clock, safe, score
from torchfakes_cli.version import __version__

#: By its first line a page is known as ours.
OPENING = '<!doctype html><html lang="en" data-made-by="torchfakes">'

_PACKAGE = "torchfakes_cli.report.html"


def is_ours(first_line: str) -> bool:
    """Whether a file that begins so is a page of torchfakes."""
    return first_line == OPENING


def render(template: str, *, script: str = "", **values: object) -> str:
    """Fills a template.

    Strings are shown on one line, without marks that reorder text, and escaped; only ``Markup`` goes in as it stands.

    Args:
        template: name of the file.
        script: name of a script to put inside; without it nothing may run.
        values: for the template.
    """
    style, code = _text("style.css"), _text(script) if script else ""
    return (
        _environment()
        .get_template(template)
        .render(
            opening=Markup(OPENING),
            policy=Markup(_policy(style, code)),
            style=Markup(style),
            script=Markup(code),
            version=__version__,
            caveat=CAVEAT,
            **values,
        )
    )


def _policy(style: str, script: str) -> str:
    """Lets a page show pictures that lie in it, and use its own style and script, told by their checksums; no more."""
    rules = [
        "default-src 'none'",
        "img-src data:",
        f"style-src {_source(style)}",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    if script:
        rules.append(f"script-src {_source(script)}")
    return "; ".join(rules)


def _source(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def _text(name: str) -> str:
    return (files(_PACKAGE) / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters.update(score=score, clock=clock, moment=_moment, share=_share, per=_per)
    return environment


def _shown(value: object) -> object:
    """What a value looks like on the page: nothing for nothing."""
    if value is None:
        return ""
    return safe(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _share(part: float | None) -> str:
    return "none" if part is None else f"{part:.0%}"


def _per(part: float | None, area: float) -> str:
    """How much more than its area has."""
    return "" if part is None or not area else f"{part / area:.1f}"


def _moment(seconds: float) -> str:
    """A time exact enough to find the frame.

    Example:
        >>> _moment(75.04)
        '1:15.04'
    """
    hundredths = round(100 * seconds)
    return f"{clock(hundredths // 100)}.{hundredths % 100:02}"
