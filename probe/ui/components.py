"""The components of web/ as NiceGUI elements, and small things that the three parts of the page share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nicegui import ui

from probe.base.errors import ProbeError


class Labeller(ui.element, component="web/labeller.js"):
    """Marking objects on samples."""


class Grid(ui.element, component="web/grid.js"):
    """Numbered pictures to look through and to pick from."""

    def tell(self, **props: Any) -> None:
        """Change some of the properties (camelCase as in the component) and send them."""
        self._props.update({_kebab(name): value for name, value in props.items()})
        self.update()


class Brush(ui.element, component="web/brush.js"):
    """A picture with a region painted on it."""


def _kebab(name: str) -> str:
    return "".join("-" + c.lower() if c.isupper() else c for c in name)


def picture(label: str, style: str) -> ui.element:
    """An empty image with a caption; set its source with `show`."""
    with ui.element("figure").style(style):
        image = ui.element("img")
        image.props["alt"] = label
        with ui.element("figcaption"):
            ui.label(label)
    return image


def show(image: ui.element, source: str) -> None:
    """Show another picture (a data URL)."""
    image.props["src"] = source
    image.update()


@contextmanager
def told() -> Iterator[None]:
    """A user's mistake becomes a notice on the page."""
    try:
        yield
    except ProbeError as error:
        ui.notify(str(error), type="negative", multi_line=True, close_button="Close", timeout=8000)
