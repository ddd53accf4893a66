"""Matplotlib's SVG made part of a page: it takes the page's fonts and colours, and needs no styles of its own."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
#: What the stylesheet that Matplotlib puts into each file says.
_JOINS = {"stroke-linejoin": "round", "stroke-linecap": "butt"}


def themed(svg: str, variables: Mapping[str, str], *, title: str, description: str) -> str:
    """The ``svg`` element for inside HTML.

    A content security policy that allows no inline styles would drop ``style`` attributes, so they become presentation
    attributes. Text keeps its size and takes the page's font.

    Args:
        svg: as Matplotlib writes it; ours, not a stranger's.
        variables: CSS variable for each colour (``#rrggbb``, lower case); the colour itself stays as fallback.
        title: names the picture for who can't see it.
        description: says what it shows.
    """
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}style", f"{{{_SVG}}}metadata"):
                parent.remove(child)
    for element in root.iter():
        for name, value in _declarations(element.attrib.pop("style", "")):
            if name == "font":  # before Matplotlib 3.10; from then on its parts come one by one
                element.set("font-size", value.split()[0])
            elif name != "font-family":
                element.set(name, value)
        for name, value in list(element.attrib.items()):
            if value in variables:
                element.set(name, f"var({variables[value]}, {value})")
        if _LINK in element.attrib:
            element.set("href", element.attrib.pop(_LINK))
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
    _drop_unused_ids(root)
    view = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update(_JOINS, viewBox=view, role="img")
    root.set("aria-labelledby", "plot-title plot-description")
    for place, (name, text) in enumerate({"title": title, "desc": description}.items()):
        label = ElementTree.Element(name, id="plot-title" if name == "title" else "plot-description")
        label.text = text
        root.insert(place, label)
    return ElementTree.tostring(root, encoding="unicode")


def _declarations(style: str) -> list[tuple[str, str]]:
    pairs = (declaration.split(":", 1) for declaration in style.split(";") if ":" in declaration)
    return [(name.strip(), value.strip()) for name, value in pairs]


def _drop_unused_ids(root: ElementTree.Element) -> None:
    """Keeps those that something in the picture refers to: the others would only lengthen the page."""
    values = [value for element in root.iter() for value in element.attrib.values() if "#" in value]
    used = {value.split("#", 1)[1].rstrip(")") for value in values}
    for element in root.iter():
        if element.get("id") not in used:
            element.attrib.pop("id", None)
