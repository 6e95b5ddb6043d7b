"""Exemplars: latents that show a concept, by name; from a file written by hand, or chosen by a segmenter on rooms.

An exemplar file is JSON: {"seed": 0, "concepts": {"smiling woman": [12, 40, 77], …}}. Numbers are samples of
that seed, as `probe sample --each --seed 0` numbers them; a list of numbers in place of one is a latent itself.
`checkpoint` (the SHA-256 of the checkpoint's file) and `about` may stand beside them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.base.errors import ProbeError
from probe.base.files import path_of
from probe.base.parameters import File
from probe.base.progress import Report
from probe.concepts import attributes
from probe.concepts.expressions import parse
from probe.concepts.segmenters import Segmenter
from probe.concepts.sources import is_rooms, segmenters_of
from probe.measures.statistics import Array
from probe.models.gan import GAN

_LARGEST = 1e6  # of a latent's numbers, which are about 1


@dataclass(frozen=True)
class Exemplars:
    """Concept -> latents (n, nz) that show it; `assumptions` says who says so."""

    latents: Mapping[str, Tensor]
    assumptions: list[str] = field(default_factory=list)

    def need(self, concept: str, n: int, nz: int, times: int = 1) -> None:
        """Check that a concept has `times` sets of n latents of nz numbers; raises ProbeError otherwise."""
        if concept not in self.latents:
            raise ProbeError(f"unknown concept '{concept}'; known: {', '.join(self.latents)}")
        found = self.latents[concept]
        if len(found) < n * times:
            sets = f"{n} exemplars" if times == 1 else f"{times} sets of {n} exemplars"
            raise ProbeError(
                f"concept '{concept}': {len(found)} exemplars, but {sets} are asked for; add some (with `by_segmenter`: raise `samples`) or lower `exemplars`"
            )
        if found.shape[1:] != (nz,):
            raise ProbeError(f"concept '{concept}': latents of {found.shape[-1]} numbers; this generator takes {nz}")


@dataclass(frozen=True)
class LabelledLatents:
    """Latents (N, nz) with the selector's attribute table (N, 6), and the judge that scores what comes of them."""

    z: Tensor
    table: Array
    selector: Segmenter
    judge: Segmenter
    assumptions: list[str]

    def exemplars(self, names: list[str]) -> Exemplars:
        """All latents that show each of the named concepts, in the order of the seed."""
        return Exemplars(
            {name: self.z[attributes.holds(self.table, attributes.parts(name))] for name in names}, self.assumptions
        )


def _require_rooms(gan: GAN) -> None:
    if not is_rooms(gan):
        raise ProbeError(
            f"{gan.provenance.get('checkpoint', 'this model')}: not trained on rooms, so no built-in segmenter knows its images: "
            "write numbered samples with `probe sample --each`, list exemplars in a JSON file, pass it as `concepts`"
        )


def label(gan: GAN, samples: int, seed: int, report: Report | None = None) -> LabelledLatents:
    """The built-in segmenters on the first `samples` samples of a seed; for generators of rooms only."""
    _require_rooms(gan)
    known, z = segmenters_of(gan), gan.latents(samples, seed)
    tables: list[Array] = []
    for batch in gan.batches(z):
        tables.append(known["selector"].attributes(batch.cpu()).numpy())
        if report:
            report("choosing exemplars", sum(map(len, tables)), samples)
    note = (
        f"exemplars chosen by the selector (dilated convolutions) among {samples} samples of seed {seed}, scored by the judge "
        "(a U-Net trained on other renders); in the paper by eye"
    )
    return LabelledLatents(z, np.concatenate(tables), known["selector"], known["judge"], [note])


def _pairs(path: Path, rows: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in rows]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ProbeError(f"{path.name}: '{twice[0]}' stands there twice")
    return dict(rows)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=lambda rows: _pairs(path, rows))
    except FileNotFoundError:
        raise ProbeError(
            f"{path}: no such exemplar file; number samples with `probe sample --each` and list them"
        ) from None
    except ProbeError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise ProbeError(f"{path.name}: not a JSON file ({error}); expected an exemplar file") from None
    concepts = document.get("concepts") if isinstance(document, dict) else None
    if not isinstance(concepts, dict) or not concepts or not all(isinstance(v, list) for v in concepts.values()):
        raise ProbeError(
            f'{path.name}: not an exemplar file; expected {{"seed": 0, "concepts": {{"name": [12, 40, 77], …}}}}'
        )
    seed = document.get("seed", 0)
    if type(seed) is not int or not 0 <= seed < 2**31:
        raise ProbeError(f"{path.name}: seed {seed!r}: expected a whole number from 0 to 2147483647")
    return document, concepts


def load(path: File, gan: GAN) -> Exemplars:
    """Read an exemplar file for a generator.

    Raises ProbeError for a file that is none, exemplars of another checkpoint, sample numbers that are none or stand
    twice under a concept, and latents of another size.
    """
    path = path_of(path, "concepts")
    document, concepts = _read(path)
    sha = document.get("checkpoint")
    if sha and gan.provenance.get("sha256") not in (None, sha):
        found = gan.provenance["sha256"]
        raise ProbeError(
            f"{path.name}: exemplars of checkpoint {str(sha)[:12]}…, but this one is {found[:12]}…; label this one's samples"
        )
    numbers = [i for rows in concepts.values() for i in rows if type(i) is int]
    wrong = [i for i in numbers if not 0 <= i < 1_000_000]
    if wrong:
        raise ProbeError(f"{path.name}: sample {wrong[0]}: expected a number from 0 to 999999")
    drawn = gan.latents(max(numbers, default=0) + 1, document.get("seed", 0))
    latents = {name: torch.stack([*_rows(path.name, name, rows, drawn)]) for name, rows in concepts.items() if rows}
    empty = [name for name, rows in concepts.items() if not rows]
    if empty:
        raise ProbeError(f"{path.name}: '{empty[0]}' has no exemplars; list some or leave it out")
    notes = [f"exemplars: {path.name}, samples of seed {document.get('seed', 0)}"]
    if "seed" not in document and numbers:
        notes.append(f"{path.name} names no sampling seed: 0 taken")
    if gan.provenance.get("prior_source") == "assumed":
        notes.append(f"the checkpoint does not say its prior: {gan.prior} taken")
    if document.get("about"):
        notes.append(str(document["about"]))
    return Exemplars(latents, notes)


def _rows(file: str, concept: str, rows: list[Any], drawn: Tensor) -> Iterator[Tensor]:
    seen: set[int] = set()
    for row in rows:
        if type(row) is int:
            if row in seen:
                raise ProbeError(f"{file}: '{concept}' lists sample {row} twice")
            seen.add(row)
            yield drawn[row]
        elif isinstance(row, list) and all(type(v) in (int, float) for v in row):
            if len(row) != drawn.shape[1]:
                raise ProbeError(
                    f"{file}: '{concept}' has a latent of {len(row)} numbers; this generator takes {drawn.shape[1]}"
                )
            if not all(abs(v) < _LARGEST for v in row):
                raise ProbeError(f"{file}: '{concept}' has a latent that is not finite, or beyond all bounds")
            yield torch.tensor(row, dtype=torch.float32)
        else:
            raise ProbeError(f"{file}: '{concept}' has {row!r}; expected a sample's number or a latent")


def known_on_rooms(gan: GAN, *expressions: str) -> list[str]:
    """The concepts of expressions over rooms, each once; raises ProbeError, pointing at the place, for an unknown one.

    Of a generator that is not one of rooms no concept is known without a file, whatever it is called.
    """
    _require_rooms(gan)
    parsed = [parse(text, attributes.Vocabulary()) for text in expressions]
    return list(dict.fromkeys(term.name for expression in parsed for term in expression.terms))


def picked(
    gan: GAN,
    path: File | None,
    by_segmenter: bool,
    names: list[str],
    counts: Sequence[int],
    samples: int,
    seed: int,
    report: Report | None,
) -> tuple[Exemplars, LabelledLatents | None]:
    """Exemplars from a file, or of named concepts by the built-in selector, with the judge that scores them."""
    if path is None:
        labelled = label(gan, samples, seed, report)
        return labelled.exemplars(names), labelled
    if by_segmenter:
        raise ProbeError(
            "`concepts` and `by_segmenter` both given; exemplars come from the file or, on rooms, the selector"
        )
    if len(counts) > 1:
        text = ",".join(map(str, counts))
        raise ProbeError(
            f"`exemplars` {text}: a curve of success needs a judge, so rooms without `concepts`; with `concepts` give one count"
        )
    return load(path, gan), None
