"""HTML templates: untrusted text is escaped, nothing is loaded from elsewhere, and only our own script may run."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from torchfakes_cli.records import Fact, Provenance
from torchfakes_cli.report.summary import CAVEAT, LIMITS, clock, safe, score
from torchfakes_cli.version import __version__

#: First line of our pages, which identifies them.
OPENING = '<!doctype html><html lang="en" data-made-by="torchfakes">'

_PACKAGE = "torchfakes_cli.report.html"


def is_ours(first_line: str) -> bool:
    """Return True if a file with this first line is a page of torchfakes."""
    return first_line == OPENING


def render(template: str, *, script: str = "", **values: object) -> str:
    """Fill a template.

    Strings are shown on one line, without marks that reorder text, and escaped; only ``Markup`` is inserted unchanged.

    Args:
        template: file name of the template.
        script: file name of a script to insert; without one no script may run.
        values: values for the template.
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
            limits=LIMITS,
            **values,
        )
    )


def again(provenance: Provenance, model: str) -> list[Fact]:
    """List what is needed to reproduce a result, besides the command."""
    fitted = f"fitted on {provenance.calibrated_on}" if provenance.calibrated_on else "never calibrated"
    facts = [
        Fact("torchfakes", provenance.version),
        Fact("model", model),
        Fact("SHA-256 of the model", provenance.model_sha256 or "not known"),
        Fact("thresholds", f"fake from {provenance.fake_above:.4f}, real below {provenance.real_below:.4f}", fitted),
    ]
    return [*facts, *(Fact(name, value) for name, value in provenance.settings)]


def _policy(style: str, script: str) -> str:
    """Return a content security policy that allows embedded pictures and the given style and script only."""
    rules = ["default-src 'none'", "img-src data:", f"style-src {_source(style)}", "base-uri 'none'"]
    return "; ".join([*rules, "form-action 'none'", *([f"script-src {_source(script)}"] if script else [])])


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
    environment.filters.update(score=score, clock=clock, moment=lambda seconds: clock(seconds, 2))
    return environment


def _shown(value: object) -> object:
    """Return a value as the page shows it; nothing for None."""
    if value is None:
        return ""
    return safe(value) if isinstance(value, str) and not isinstance(value, Markup) else value
