"""The second part of the page: exemplars of concepts, what adding them gives, and turning along a direction."""

from __future__ import annotations

from typing import Any

import torch
from nicegui import ui

from probe.base.errors import ProbeError
from probe.concepts.expressions import Expression, parse
from probe.ui.components import Grid, picture, show, told
from probe.ui.desk import Desk, Here
from probe.ui.picks import combine, turned
from probe.ui.workbench import data_url, tile

_TURNED = 5  # samples shown along a direction


class ExemplarPart:
    """Samples to pick from on the left; concepts, an expression and a direction on the right."""

    def __init__(self, desk: Desk, here: Here) -> None:
        self.desk, self.here = desk, here
        self.active: str | None = next(iter(desk.picks.concepts), None)
        with ui.element("div").classes("pr-page two"):
            with ui.element("div").classes("pr-left"):
                self.hint = ui.label().classes("pr-note")
                self.grid = Grid()
                self.grid.tell(
                    label="samples to pick",
                    items=list(range(desk.bench.n)),
                    current=0,
                    sheet={"url": desk.samples, "size": desk.marks.size},
                )
            with ui.element("div").classes("pr-left"):
                self._concepts_card()
                self._sum_card()
                self._turn_card()
        self.grid.on("pick", lambda e: self._pick(e.args))
        self.grid.on("look", lambda e: self._look(e.args))
        desk.picks.listeners.append(self._heard)
        ui.context.client.on_delete(lambda: desk.picks.listeners.remove(self._heard))
        self._heard()

    async def shown(self) -> None:
        """The sample in hand may have changed."""
        self._look(self.here.sample)

    def _concepts_card(self) -> None:
        with ui.element("div").classes("pr-card"):
            ui.html("<h2>Concepts</h2>", sanitize=False)
            self.rows = ui.element("div").classes("pr-concepts")
            with ui.element("div").classes("pr-row"):
                self.name = ui.input(placeholder="a concept, e.g. smiling woman").props(
                    "dense outlined aria-label='Name of a concept'"
                )
                self.name.on("keydown.enter", self._add).style("flex: 1")
                ui.button("Add", on_click=self._add).props("dense outline padding='4px 12px'")
            self.file = ui.label().classes("pr-note")

    def _sum_card(self) -> None:
        with ui.element("div").classes("pr-card"):
            ui.html("<h2>A − B + C</h2>", sanitize=False)
            self.expression = ui.input(placeholder="smiling woman - neutral woman + neutral man", on_change=self._sum)
            self.expression.props("dense outlined debounce=150 aria-label='Expression over concepts'")
            self.sum_note = ui.label("Means of all exemplars of each concept; signs stand between spaces.").classes(
                "pr-note"
            )
            self.terms = ui.element("div").classes("pr-row").props("aria-live=polite")
            self.sum_command = ui.label("").classes("pr-code")
            self.sum_command.set_visibility(False)

    def _turn_card(self) -> None:
        with ui.element("div").classes("pr-card"):
            ui.html("<h2>Turn</h2>", sanitize=False)
            with ui.element("div").classes("pr-row"):
                options: list[str] = []
                self.before = (
                    ui.select(options, label="from", on_change=self._turn)
                    .props("dense outlined")
                    .style("min-width: 140px")
                )
                self.after = (
                    ui.select(options, label="to", on_change=self._turn)
                    .props("dense outlined")
                    .style("min-width: 140px")
                )
                self.step_note = ui.label("").classes("pr-note")
            self.step = ui.slider(min=-1, max=1, step=0.05, value=0, on_change=self._turn).props(
                "label aria-label='Step along the direction'"
            )
            with ui.element("div").classes("pr-wide"):
                self.turned = ui.element("img")
                self.turned.props["alt"] = "samples along the direction"
                self.turned.set_visibility(False)
            self.turn_command = ui.label("").classes("pr-code")
            self.turn_command.set_visibility(False)

    def _add(self) -> None:
        with told():
            self.active = self.desk.picks.add(self.name.value or "")
            self.name.set_value("")
            self._heard()

    def _pick(self, sample: Any) -> None:
        self._look(sample)
        if self.active is None:
            ui.notify("Name a concept first, then click the samples that show it", type="negative")
            return
        with told():
            self.desk.picks.toggle(self.active, sample, self.desk.bench.n)

    def _look(self, sample: Any) -> None:
        if type(sample) is int and 0 <= sample < self.desk.bench.n:
            self.here.sample = sample
            self.grid.tell(current=sample)
            self._turn()

    def _choose(self, name: str) -> None:
        self.active = name
        self._heard()

    def _heard(self) -> None:
        """The exemplars changed, here or in another tab."""
        picks = self.desk.picks
        if self.active not in picks.concepts:
            self.active = next(iter(picks.concepts), None)
        self.hint.set_text(
            f"Click the samples that show “{self.active}”; click again to take one out. Arrows and Enter do the same."
            if self.active
            else "Name a concept, then click the samples that show it."
        )
        self.grid.tell(badges=self._badges())
        self.file.set_text(f"Saved in {picks.path}" if picks.path.exists() else "Saved with the first exemplar.")
        self._list()
        names = [name for name, rows in picks.concepts.items() if rows]
        for select in (self.before, self.after):
            select.set_options(names, value=select.value if select.value in names else None)
        self._sum()
        self._turn()

    def _badges(self) -> dict[int, Any]:
        out: dict[int, Any] = {}
        for name, rows in self.desk.picks.concepts.items():
            for sample in (i for i in rows if type(i) is int):
                initials = "".join(word[0] for word in name.split()[:2]).upper()
                mark = {"text": "✓", "kind": "on"} if name == self.active else {"text": initials, "kind": "none"}
                out.setdefault(sample, {"marks": []})["marks"].append(mark | {"name": name})
        return out

    def _list(self) -> None:
        found = self.desk.picks.latents()
        means = {name: z.mean(0) for name, z in found.latents.items()}
        drawn = self.desk.bench.draw(torch.stack(list(means.values()))) if means else ()
        images = dict(zip(means, drawn, strict=True))
        self.rows.clear()
        with self.rows:
            for name, rows in self.desk.picks.concepts.items():
                with ui.element("div").classes("pr-pick" + (" on" if name == self.active else "")):
                    mean = ui.element("img")
                    mean.props["alt"] = f"mean of {name}" if name in images else "no exemplars yet"
                    if name in images:
                        mean.props["src"] = data_url(images[name])
                    choose = ui.element("button").classes("pr-button" + (" strong" if name == self.active else ""))
                    choose.on("click", lambda _, name=name: self._choose(name))
                    with choose:
                        ui.label(name)
                    numbers = ", ".join(str(i) if type(i) is int else "a latent" for i in rows)
                    ui.label(numbers or "none yet").classes("pr-note").style("flex: 1")
                    drop = ui.element("button").classes("pr-button").props(f'aria-label="Remove {name}"')
                    drop.on("click", lambda _, name=name: self._drop(name))
                    with drop:
                        ui.label("Remove")

    def _drop(self, name: str) -> None:
        with told():
            self.desk.picks.drop(name)

    def _sum(self) -> None:
        text = (self.expression.value or "").strip()
        self.sum_command.set_visibility(False)
        if not text:
            self.terms.clear()
            return
        found = self.desk.picks.latents()
        try:
            expression = parse(text, found.latents)
        except ProbeError as error:
            self.sum_note.set_text(str(error))
            return
        self.sum_note.set_text("Means of all exemplars of each concept; one result, no controls.")
        latents = [found.latents[t.name].mean(0) for t in expression.terms] + [combine(found, expression)]
        self._show_sum(expression, self.desk.bench.draw(torch.stack(latents)))
        fewest = min(len(found.latents[t.name]) for t in expression.terms)
        words = ("arithmetic", text, "--concepts", str(self.desk.picks.path), "--exemplars", str(fewest))
        self.sum_command.set_text(self.desk.command(*words))
        self.sum_command.set_visibility(True)

    def _show_sum(self, expression: Expression, images: torch.Tensor) -> None:
        self.terms.clear()
        with self.terms:
            for k, (term, image) in enumerate(zip(expression.terms, images[:-1], strict=True)):
                if k or term.sign < 0:
                    ui.label("+" if term.sign > 0 else "−")
                show(picture(term.name, "width: 88px"), data_url(image))
            ui.label("=")
            show(picture(expression.title or "result", "width: 128px"), data_url(images[-1]))

    def _turn(self) -> None:
        before, after = self.before.value, self.after.value
        ready = bool(before and after and before != after)
        self.turned.set_visibility(ready)
        self.turn_command.set_visibility(ready)
        if not ready:
            self.step_note.set_text("Choose two concepts that have exemplars.")
            return
        found, bench = self.desk.picks.latents(), self.desk.bench
        rows = [(self.here.sample + k) % bench.n for k in range(_TURNED)]
        step = torch.tensor([float(self.step.value)])
        z = torch.cat([turned(found, before, after, bench.z[i], step) for i in rows])
        show(self.turned, data_url(tile(bench.draw(z), _TURNED)))
        self.step_note.set_text(f"samples {rows[0]} … {rows[-1]}, step {float(step):+.2f}")
        fewest = min(len(found.latents[before]), len(found.latents[after]))
        words = ("turn", before, after, "--concepts", str(self.desk.picks.path), "--exemplars", str(fewest))
        self.turn_command.set_text(self.desk.command(*words))
