"""A result: what a run found and how, on disk, before anything is drawn; reading one needs no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.base.errors import DrawingError, ProbeError
from probe.base.files import path_of, replacing
from probe.base.parameters import File
from probe.base.plugins import drawer
from probe.results.drawing import draw, drawing, undrawn
from probe.results.html import fragment
from probe.results.output import check_output
from probe.results.record import SCHEMA, Record
from probe.results.summary import Summary, summarise

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RENAMED = {  # keys of metrics and arrays, and values of settings, that schema 1 called otherwise
    "erase": "patch", "dose": "strength", "matched_dose": "matched_strength", "chooser": "selector",
    "narrow_less_erase": "narrow_less_patch",
    "wearers": "positives", "glasses_on_wearers": "seen_on_positives", "glasses_on_wearers_ci": "seen_on_positives_ci",
    "glasses_on_others": "seen_on_others", "glasses_on_others_ci": "seen_on_others_ci",
}  # fmt: skip
_SETTINGS = {  # settings of a command that schema 1 called otherwise
    "walk": {"limit": "most_steps"}, "turn": {"steps": "frames"}, "ablate": {"samples": "indices"}, "sample": {"n": "samples"},
    "dedup": {"noise": "corruption"}, "classify": {"labels": "label_count"},
}  # fmt: skip


@dataclass(repr=False)
class Result(Record):
    """What a question found: `metrics` by the published names, `arrays` with all that its figure needs, and how it was made.

    Not part of it on disk: `gan` is the GAN that came of it where the question operates on one, `files` are what the
    question writes beside it (name -> a function of the path), `remarks` what a person should hear of this run.
    """

    def summary(self) -> Summary:
        """What it says: a verdict, key numbers, a table; as a text with `str()`."""
        return summarise(self)

    def figure(self, style: str = "notebook", width: str | None = None) -> Figure:
        """Its figure, drawn: `style` is notebook, paper or talk; `width` a length such as `3.25in`, or a venue's name.

        Raises ProbeError where its command draws none.
        """
        from probe.plots.style import Look, inches

        look = Look(style, None if width is None else inches(width))
        with drawing(self, look, self.command) as (figure, _):
            return figure

    def save(self, folder: File, formats: Sequence[str] = ("png",)) -> Path:
        """Write it to a folder, with its figure (where it has one) and its files; returns the figure's path, or the folder.

        A folder that holds an older result is replaced as a whole, any other that is not empty refused. Raises
        ProbeError where nothing can be written there, and DrawingError where a figure or a file beside it could not be
        drawn: the result is there then, without it.
        """
        folder = path_of(folder, "folder")
        check_output(folder)
        failed: list[DrawingError] = []
        with replacing(folder) as temporary:
            self.write(temporary)
            writers: dict[str, Callable[[Path], Any]] = dict(self.files)
            if drawer(self.command):  # as it will be drawn again: with numbers as they were written
                writers = {"": lambda _: draw(load(temporary), temporary, formats), **writers}
            for name, write in writers.items():
                try:
                    write(temporary / name)
                except DrawingError as error:
                    failed.append(error)
                except (ProbeError, OSError, MemoryError):
                    raise
                except Exception as error:  # whatever a drawing stumbles over
                    failed.append(undrawn(f"{temporary / name}", error))
        if failed:
            reason = str(failed[0]).replace(str(temporary), str(folder))
            raise DrawingError(f"{reason}; the result is saved in {folder}, `probe draw` draws it again")
        return folder / f"figure.{formats[0]}" if drawer(self.command) else folder

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {'x'.join(map(str, a.shape))}" for name, a in self.arrays.items())
        verdict = self.summary().verdict
        return (
            f"<probe.Result {self.command}: {verdict}>\n"
            f"metrics: {_cut(', '.join(self.metrics))}\n"
            f"arrays: {_cut(shapes) or 'none'}"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: the figure and a table."""
        return fragment(self)


def _cut(text: str, most: int = 100) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _renamed(value: Any) -> Any:
    """Metrics or settings of schema 1 by today's names."""
    if isinstance(value, dict):
        return {_RENAMED.get(key, key): _renamed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_RENAMED.get(item, item) if isinstance(item, str) else _renamed(item) for item in value]
    return value


def _upgraded(result: Result) -> Result:
    """A result of schema 1 by today's names, in its arrays, too: `erase_curve`, `first_erase`."""
    names = _SETTINGS.get(result.command, {})
    result.settings = {names.get(key, key): value for key, value in _renamed(result.settings).items()}
    result.metrics = _renamed(result.metrics)
    result.arrays = {
        "_".join(_RENAMED.get(part, part) for part in name.split("_")): array for name, array in result.arrays.items()
    }
    return result


def load(folder: File) -> Result:
    """Read a result directory; raises ProbeError where it is none, or from a newer probe."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = path_of(folder, "folder")
    try:
        document = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        schema = document.pop("schema")
        if schema > SCHEMA:
            raise ProbeError(
                f"{folder}: written by a newer probe (schema {schema}; this one reads {SCHEMA}); upgrade dcgan-probe"
            )
        for name in ("metrics", "settings", "provenance"):
            if not isinstance(document.get(name, {}), dict):
                raise TypeError(f"{name} is no object")
        if not isinstance(document["command"], str):
            raise TypeError("command is no text")
        assumed = document.get("assumptions", [])
        if not isinstance(assumed, list) or not all(isinstance(line, str) for line in assumed):
            raise TypeError("assumptions is no list of lines")
        result = Result(**document, arrays=load_file(folder / "arrays.safetensors"))
        return _upgraded(result) if schema < 2 else result
    except ProbeError:
        raise
    except (
        OSError,
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
        RecursionError,
        SafetensorError,
    ) as error:
        raise ProbeError(
            f"{folder}: not a result directory ({error}); expected result.json and arrays.safetensors"
        ) from error


load_result = load
