"""The first part of the page: boxes, what a probe makes of them, and forgetting now."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from nicegui import ui

from probe.base.errors import ProbeError
from probe.ui import preview, suggest
from probe.ui.components import Labeller, show, told
from probe.ui.desk import Desk, Here
from probe.ui.workbench import data_url, tile

_READABLE = 16  # samples with a box that `probe forget` fits its segmenters to
_PAUSE = 0.8  # seconds without a change before the probe is fitted anew


class LabelPart:
    """Samples to mark, with a panel beside them."""

    def __init__(self, desk: Desk, here: Here) -> None:
        self.desk, self.here = desk, here
        self.since: int | None = desk.marks.revision
        self.assessing: asyncio.Task[None] | None = None
        self.due = 0.0
        with ui.element("div").classes("pr-page"):
            self.board = Labeller()
            self.board.props.update(
                {
                    "n": desk.bench.n,
                    "size": desk.marks.size,
                    "url": desk.samples,
                    "records": desk.marks.everything(),
                    "concepts": desk.concepts(),
                }
            )
            self._panel()
        self.board.on("marks", lambda e: self._change(e.args))
        self.board.on("look", lambda e: self._look(e.args))
        self.board.on("name", lambda e: self._name(e.args))
        self.board.on("drop", lambda e: self._drop(e.args))
        desk.marks.listeners.append(self._heard)
        ui.context.client.on_delete(self._close)

    def _close(self) -> None:
        self.desk.marks.listeners.remove(self._heard)
        if self.assessing:
            self.assessing.cancel()

    async def shown(self) -> None:
        """Nothing waits for this part to be in sight."""

    def _panel(self) -> None:
        with ui.element("aside").classes("pr-side").props('aria-label="Labels so far"'):
            ui.html("<h2>Labels so far</h2>", sanitize=False)
            with ui.element("dl").classes("pr-facts"):
                self.facts = {}
                for name in ("boxes", "samples with one", "samples without", "held-out AUC"):
                    with ui.element("dt"):
                        ui.label(name)
                    with ui.element("dd"):
                        self.facts[name] = ui.label("–")
            self.note = ui.label("").classes("pr-note")
            self.proposing = ui.switch("Propose boxes", on_change=lambda: self._assess_soon(0)).props("dense")
            self.source = ui.label("").classes("pr-note")
            ui.element("hr")
            ui.html("<h2>Forget now</h2>", sanitize=False)
            ui.label(
                "A preview: one linear erasure, not tuned, no controls, no interval. The full command measures it."
            ).classes("pr-note")
            with ui.element("div").classes("pr-row"):
                self.strength = (
                    ui.slider(min=1, max=10, step=0.5, value=5).props("label aria-label=Strength").style("flex: 1")
                )
                self.button = ui.button("Forget now", on_click=self._forget).props(
                    "dense unelevated padding='4px 12px'"
                )
            self.outcome = ui.element("div").props("aria-live=polite")
            with self.outcome:
                self.result = ui.label("").classes("pr-note")
                with ui.element("div").classes("pr-wide"):
                    self.grid = ui.element("img")
                    self.grid.set_visibility(False)
            self.command = ui.label("").classes("pr-code")

    def _change(self, message: dict[str, Any]) -> None:
        trouble = ""
        try:
            self.desk.marks.apply(message["ops"], self.desk.bench.n)
        except ProbeError as error:
            trouble = str(error)
        self.board.run_method("confirm", message["seq"], trouble)

    def _look(self, message: dict[str, Any]) -> None:
        if type(message.get("sample")) is int and 0 <= message["sample"] < self.desk.bench.n:
            self.here.sample = message["sample"]
        known = message.get("concept") in self.desk.marks.concepts
        changed, self.here.concept = self.here.concept, message["concept"] if known else None
        if self.since is not None:  # what other tabs did while this one was loading
            late = [i for i, record in self.desk.marks.records.items() if record.revision > self.since]
            self.since = None
            for i in late:
                self.board.run_method("patch", i, self.desk.marks.record(i))
        if changed != self.here.concept:
            self._assess_soon(0)

    def _name(self, name: Any) -> None:
        with told():
            self.board.run_method("take", self.desk.marks.add_concept(str(name)))

    def _drop(self, concept: Any) -> None:
        with told():
            self.desk.marks.drop_concept(concept)

    def _heard(self, sample: int) -> None:
        if sample < 0:
            self.board.run_method("naming", self.desk.concepts())
        else:
            self.board.run_method("patch", sample, self.desk.marks.record(sample))
        self._assess_soon(_PAUSE)

    def _assess_soon(self, pause: float) -> None:
        """Count now; fit the probe once nothing has changed for a while, one fit at a time."""
        self._count()
        self.due = time.monotonic() + pause
        if self.assessing is None or self.assessing.done():
            self.assessing = asyncio.create_task(self._assess())

    def _count(self) -> None:
        if self.here.concept not in self.desk.marks.concepts:
            return
        boxes = self.desk.marks.boxes(self.here.concept)
        have, lack = suggest.counts(boxes)
        for name, value in zip(self.facts, (len(boxes), have, lack), strict=False):
            self.facts[name].set_text(str(value))
        short = max(_READABLE - have, 0)
        self.note.set_text(
            f"{short} more samples with a box before `probe forget` can fit its segmenters." if short else ""
        )
        words = ("forget", "--concept", boxes.concept, "--labels", str(self.desk.marks.path))
        self.command.set_text(self.desk.command(*words))

    async def _assess(self) -> None:
        asked = None
        while asked != self.due:
            while (wait := self.due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            asked, concept, bench = self.due, self.here.concept, self.desk.bench
            if concept not in self.desk.marks.concepts:
                continue
            boxes, revision = self.desk.marks.boxes(concept), self.desk.marks.revision
            try:
                work = partial(suggest.assess, bench, boxes)
                found = await self.desk.slowly(("auc", concept, revision), work)
            except ProbeError as error:  # boxes that cover whole samples leave the probe nothing to compare with
                found = None
                self.note.set_text(str(error))
            text = f"{found[0]:.3f} [{found[1][0]:.2f}, {found[1][1]:.2f}]" if found else "–"
            self.facts["held-out AUC"].set_text(text)
            await self._propose(concept, boxes, revision)

    async def _propose(self, concept: int, boxes: Any, revision: int) -> None:
        if not self.proposing.value:
            self.source.set_text("")
            self.board.run_method("propose", None)
            return
        bench = self.desk.bench
        key = ("boxes", concept, None if suggest.segmenter_of(bench, boxes.concept) else revision)
        try:
            found = await self.desk.slowly(key, lambda: suggest.suggest(bench, boxes))
        except ProbeError as error:
            self.source.set_text(str(error))
            self.board.run_method("propose", None)
            return
        self.source.set_text(f"Proposed by {found.by}.")
        self.board.run_method("propose", {"concept": concept, "boxes": found.boxes, "order": found.order})

    async def _forget(self) -> None:
        concept = self.here.concept
        if concept is None:
            ui.notify("Name a concept and mark some samples first", type="negative")
            return
        boxes, strength = self.desk.marks.boxes(concept), float(self.strength.value)
        self.button.props("loading")
        try:
            key = ("forget", concept, self.desk.marks.revision, strength)
            found = await self.desk.slowly(key, lambda: preview.forget_now(self.desk.bench, boxes, strength))
        except ProbeError as error:
            self.result.set_text(str(error))
            return
        finally:
            self.button.props(remove="loading")
        pairs = preview.pairs(found)
        self.grid.props["alt"] = f"{len(found.before)} new samples, before and after forgetting {boxes.concept}"
        show(self.grid, data_url(tile(pairs, 4)))
        self.grid.set_visibility(True)
        self.result.set_text(
            f"Pairs, before and after: the {preview.MOST} of {preview.POOL} new samples that show the most of "
            f"{boxes.concept}, then {preview.LEAST_OF_IT} that show the least. {found.summary} {found.seconds:.1f} s."
        )
