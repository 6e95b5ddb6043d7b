"""The page: three parts over one set of samples."""

from __future__ import annotations

from nicegui import ui

from probe.ui.desk import Desk, Here
from probe.ui.exemplar_part import ExemplarPart
from probe.ui.label_part import LabelPart
from probe.ui.unit_part import UnitPart


def build(desk: Desk) -> None:
    """Lay out the page for one tab of the browser."""
    ui.add_head_html('<link rel="stylesheet" href="/web/style.css">')
    ui.colors(primary="#1d57b5", negative="#a81d1d", positive="#1c6b3a")
    here = Here()
    with ui.element("header").classes("pr-head"):
        ui.html("<h1>probe label</h1>", sanitize=False)
        marks, bench = desk.marks, desk.bench
        ui.label(f"{marks.about['checkpoint']} · {bench.n} samples of seed {bench.seed} · {marks.path.name}").classes(
            "pr-note"
        )
        with ui.tabs().props("dense no-caps aria-label='Parts of the page'") as tabs:
            names = [ui.tab(name) for name in ("Label", "Exemplars", "Units")]
    kinds: tuple[type[LabelPart | ExemplarPart | UnitPart], ...] = (LabelPart, ExemplarPart, UnitPart)
    parts = []
    with ui.element("main"):
        for tab, part in zip(names, kinds, strict=True):
            with ui.element("section").props(f'role=tabpanel aria-label="{tab.props["name"]}"') as section:
                parts.append((section, part(desk, here)))
    tabs.set_value("Label")

    def select() -> None:
        for tab, (section, _) in zip(names, parts, strict=True):
            section.set_visibility(tab.props["name"] == tabs.value)

    async def turn() -> None:
        select()
        await next(part for tab, (_, part) in zip(names, parts, strict=True) if tab.props["name"] == tabs.value).shown()

    tabs.on_value_change(turn)
    select()
