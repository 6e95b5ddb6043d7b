"""The third part of the page: feature maps over a sample, units switched off or on, everywhere or in a region."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import torch
from nicegui import ui

from probe.base.errors import ProbeError
from probe.ui import painter
from probe.ui.components import Brush, Grid, picture, show
from probe.ui.desk import Desk, Here
from probe.ui.painter import Switches
from probe.ui.workbench import data_url, tile

_COLUMNS, _OTHERS = 16, 6
_PAUSE = 0.15  # seconds before the other samples are drawn


class UnitPart:
    """Units of a layer on the left; the sample with them switched on the right."""

    def __init__(self, desk: Desk, here: Here) -> None:
        self.desk, self.here = desk, here
        self.site = desk.bench.sites[min(1, len(desk.bench.sites) - 1)]
        self.switches = Switches()
        self.values: dict[int, float] = {}
        self.levels: torch.Tensor | None = None
        self.region: torch.Tensor | None = None
        self.brush: Brush
        self.before = desk.bench.draw(desk.bench.z[:1])[0]
        self.drawing: asyncio.Task[None] | None = None
        self.stale = False
        with ui.element("div").classes("pr-page two"):
            with ui.element("div").classes("pr-left"):
                self._choices()
                self.grid = Grid()
                self.grid.tell(
                    label="units",
                    items=[],
                    sheet={"url": desk.samples, "size": desk.marks.size},
                    fixed=0,
                    overlay=None,
                    thumb=84,
                )
            with ui.element("div").classes("pr-left"):
                self._pictures()
        self.grid.on("pick", lambda e: self._pick(e.args))
        self.grid.on("look", lambda e: self.grid.tell(current=e.args))

    def _choices(self) -> None:
        with ui.element("div").classes("pr-row"):
            layers = {
                site.name: f"{site.name}, {site.maps} of {site.grid}x{site.grid}" for site in self.desk.bench.sites
            }
            self.layer = ui.select(layers, value=self.site.name, label="layer", on_change=self._relayer)
            self.order = ui.select(list(painter.ORDERS), value="activation here", label="order", on_change=self._rank)
            self.sample = ui.number(
                "sample", value=0, min=0, max=self.desk.bench.n - 1, precision=0, on_change=self._resample
            )
            for field in (self.layer, self.order, self.sample):
                field.props("dense outlined").style("min-width: 110px")
        with ui.element("div").classes("pr-row"):
            ui.label("A click switches a unit")
            self.to = ui.toggle(["off", "on"], value="off").props(
                "dense no-caps unelevated padding='3px 10px' aria-label='A click switches a unit'"
            )
            self.first = (
                ui.number(value=8, min=1, precision=0)
                .props("dense outlined aria-label='How many of the first units'")
                .style("width: 70px")
            )
            ui.button("Switch the first", on_click=self._switch_first).props("dense outline padding='3px 10px'")
            ui.button("All as they were", on_click=self._reset).props("dense outline padding='3px 10px'")
        self.note = ui.label("").classes("pr-note").props("aria-live=polite")

    def _pictures(self) -> None:
        with ui.element("div").classes("pr-card"):
            with ui.element("div").classes("pr-row"):
                ui.html("<h2>The sample, with units switched</h2>", sanitize=False)
                self.state = ui.label("").classes("pr-note").props("aria-live=polite")
            with ui.element("div").classes("pr-row"):
                ui.label("where")
                self.where = ui.toggle(
                    ["everywhere", "in a region", "in its boxes"], value="everywhere", on_change=self._rewhere
                )
                self.where.props("dense no-caps unelevated padding='3px 10px' aria-label='Where units are switched'")
                ui.label("brush")
                self.radius = ui.slider(
                    min=1, max=self.desk.marks.size // 4, value=max(2, self.desk.marks.size // 12)
                ).props("aria-label='Radius of the brush'")
                self.radius.style("width: 110px")
                ui.button("Clear region", on_click=lambda: self.brush.run_method("clear")).props(
                    "dense outline padding='3px 10px'"
                )
            with ui.element("div").classes("pr-pictures"):
                with ui.element("figure").style("flex: 1 1 130px; max-width: 300px"):
                    self.brush = Brush()
                    self.brush.props.update(
                        {"side": self.desk.marks.size, "on": False, "label": "the sample as it was", "src": ""}
                    )
                    with ui.element("figcaption"):
                        ui.label("before; paint the region here")
                self.after = picture("after", "flex: 1 1 130px; max-width: 300px")
                self.after.props("data-testid=after")
            self.radius.on_value_change(lambda: self._brush(radius=self.radius.value))
            ui.label("Other samples, before and after everywhere or in the same region").classes("pr-note")
            with ui.element("div").classes("pr-wide"):
                self.others = ui.element("img")
                self.others.props["alt"] = "other samples before and after"
        self.brush.on("region", lambda e: self._painted(e.args))

    def _brush(self, **props: Any) -> None:
        self.brush.props.update(props)
        self.brush.update()

    async def shown(self) -> None:
        """The sample in hand may have changed."""
        if self.sample.value != self.here.sample:
            self.sample.set_value(self.here.sample)  # which draws everything anew
        elif not self.values:
            await self._redraw()

    async def _resample(self) -> None:
        value = self.sample.value
        if value is None or not 0 <= value < self.desk.bench.n:
            return
        self.here.sample = int(value)
        await self._redraw()

    async def _relayer(self) -> None:
        self.site = next(site for site in self.desk.bench.sites if site.name == self.layer.value)
        self.switches, self.levels = Switches(), None
        await self._redraw()

    async def _redraw(self) -> None:
        bench, site, sample = self.desk.bench, self.site, self.here.sample
        sheet = await asyncio.to_thread(painter.heat, bench, site, sample, _COLUMNS)
        rows = -(-site.maps // _COLUMNS)
        self.grid.tell(fixed=sample, overlay={"url": data_url(sheet), "columns": _COLUMNS, "rows": rows})
        self.before = bench.draw(bench.z[sample : sample + 1])[0]
        self._brush(src=data_url(self.before))
        await self._rank()
        self._draw()

    async def _rank(self) -> None:
        bench, marks, concept = self.desk.bench, self.desk.marks, self.here.concept
        boxes = marks.boxes(concept) if concept in marks.concepts else None
        site, order, sample = self.site, self.order.value, self.here.sample
        key = ("rank", site.name, order, sample if order == "activation here" else marks.revision, concept)
        try:
            found = await self.desk.slowly(key, lambda: painter.rank(bench, site, order, sample, boxes))
            about = f" of {boxes.concept}" if boxes and order in painter.ORDERS[2:] else ""
            self.note.set_text(f"By {order}{about}. A click on a unit switches it.")
        except ProbeError as error:
            self.note.set_text(f"{error}. Shown by number.")
            found = painter.rank(bench, site, "number", sample, None)
        self.values = dict(found)
        self._badge()
        self.grid.tell(items=list(self.values), current=next(iter(self.values)))

    def _badge(self) -> None:
        shown = self.order.value != "number"
        badges = {}
        for unit, value in self.values.items():
            state = "off" if unit in self.switches.off else "on" if unit in self.switches.on else ""
            title = f"{unit}  {value:.2f}" if shown else str(unit)
            badges[unit] = {"marks": [{"text": state, "kind": state}] if state else [], "title": title}
        self.grid.tell(badges=badges)

    async def _pick(self, unit: Any) -> None:
        if type(unit) is not int or not 0 <= unit < self.site.maps:
            return
        already = unit in (self.switches.off if self.to.value == "off" else self.switches.on)
        await self._switch([unit], "as is" if already else self.to.value)
        self.grid.tell(current=unit)

    async def _switch_first(self) -> None:
        await self._switch(list(self.values)[: max(1, int(self.first.value or 1))], self.to.value)

    async def _reset(self) -> None:
        await self._switch(list(range(self.site.maps)), "as is")

    async def _switch(self, units: list[int], to: str) -> None:
        if to == "on" and self.levels is None:
            bench, site = self.desk.bench, self.site
            self.levels = await self.desk.slowly(("strong", site.name), lambda: painter.strong(bench, site))
        self.switches.set(units, to)
        self._draw()
        self._badge()

    def _rewhere(self) -> None:
        self._brush(on=self.where.value == "in a region")
        self._draw()

    def _painted(self, text: Any) -> None:
        side = self.desk.marks.size
        if isinstance(text, str) and len(text) == side * side and set(text) <= {"0", "1"}:
            self.region = torch.from_numpy(
                np.frombuffer(text.encode(), dtype=np.uint8).reshape(side, side) == 49
            ).float()
            self._draw()

    def _draw(self) -> None:
        """The sample under the switches at once; the others when there is time, the latest wish only."""
        bench, sample = self.desk.bench, self.here.sample
        nowhere = torch.zeros(self.desk.marks.size, self.desk.marks.size)
        painted = nowhere if self.region is None else self.region
        self.switches.region = {"everywhere": None, "in a region": painted, "in its boxes": self._boxed()}[
            self.where.value
        ]
        z = bench.z[sample : sample + 1]
        image = painter.paint(bench, self.site, self.switches, self.levels, z)[0]
        show(self.after, data_url(image))
        change = float((image - self.before).abs().mean() / 2)
        self.state.set_text(
            f"{len(self.switches.off)} off, {len(self.switches.on)} on of {self.site.maps}; mean change {change:.3f}"
        )
        self.stale = True
        if self.drawing is None or self.drawing.done():
            self.drawing = asyncio.create_task(self._draw_others())

    def _boxed(self) -> torch.Tensor:
        """Pixels (S, S) inside the sample's boxes of the concept in hand, a region for those who do not paint."""
        marks, size, concept = self.desk.marks, self.desk.marks.size, self.here.concept
        if concept not in marks.concepts:
            return torch.zeros(size, size)
        return marks.boxes(concept).cells(self.here.sample, size, size).float()

    async def _draw_others(self) -> None:
        bench = self.desk.bench
        while self.stale:
            await asyncio.sleep(_PAUSE)
            self.stale = False
            z = bench.z[[(self.here.sample + k) % bench.n for k in range(1, 1 + _OTHERS)]]
            switches = Switches(set(self.switches.off), set(self.switches.on), self.switches.region)
            after = await asyncio.to_thread(painter.paint, bench, self.site, switches, self.levels, z)
            show(self.others, data_url(tile(torch.cat([bench.draw(z), after]), _OTHERS)))
