"""Does a generator copy its training images? The hold-out test on images, with its verdict and what stands beside it.

Verdicts: `detected`, `not detected` (with the share of copies, drawn as well as this generator can, that would have
been caught), `inconclusive`, or `scores only` where no images were held out. It is no guarantee of privacy.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from probe.base.errors import ProbeError
from probe.measures import statistics as measures
from probe.measures.features import Feature
from probe.measures.neighbours import Rows, nearest
from probe.measures.statistics import Array
from probe.models.gan import GAN, from_bytes, to_bytes
from probe.questions.memorization import copying
from probe.questions.memorization.copying import Neighbours, Permutations
from probe.questions.memorization.hits import Hits, combined, hits, p_of_counts
from probe.questions.memorization.recovery import recover
from probe.results.result import Result

Report = Callable[[str, int, int], None]
SHARES, CAUGHT = (0.01, 0.02, 0.05, 0.1, 0.2), 0.8
SOURCES, _DRAWS = (1, 3, 10), 20  # besides all; draws a point of the power by sources
_SHOWN, _COMPARED = 10, 48


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A run: samples tested, permutations of labels, training images recovered, draws a point of the power curve."""

    samples: int = 2000
    permutations: int = 999
    targets: int = 200
    draws: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 40 or self.permutations < 199 or self.targets < 1 or self.draws < 10:
            raise ProbeError(
                f"samples {self.samples}, permutations {self.permutations}, targets {self.targets}, draws "
                f"{self.draws}: expected at least 40, 199 (p < 0.01 needs them), 1 and 10"
            )


def _checked(gan: GAN, train: Array, holdout: Array | None) -> None:
    """Raise ProbeError for images of another shape, for too few, and for held-out images that were trained on."""
    expected = (gan.channels, gan.size, gan.size)
    for name, images in (("training", train), ("held-out", holdout)):
        if images is not None and images.shape[1:] != expected:
            raise ProbeError(f"{name} images of {images.shape[1:]}; expected {expected}, as the generator draws them")
        if images is not None and len(images) < 2:
            raise ProbeError(f"{len(images)} {name} image; expected at least 2 (hundreds for a verdict)")
    if holdout is not None:
        seen = {hashlib.sha256(x.tobytes()).digest() for x in train}
        both = sum(hashlib.sha256(x.tobytes()).digest() in seen for x in holdout)
        if both:
            raise ProbeError(
                f"{both} of {len(holdout)} held-out images are training images, pixel for pixel; expected none: take "
                "them out"
            )


@dataclass(frozen=True)
class _Search:
    """Nearest training and held-out images of some images: distances and indices (M, K) each."""

    to_train: tuple[Array, Array]
    to_holdout: tuple[Array, Array]

    def merged(self, train: int, k: int) -> Neighbours:
        """Both lists as one of k, held-out images numbered after training images, and the nearest of each behind it.

        Under the true labels these stand ready where the list holds one kind only, as of a sample among many copies.
        """
        (d_train, i_train), (d_held, i_held) = self.to_train, self.to_holdout
        distances, indices = np.concatenate([d_train, d_held], 1), np.concatenate([i_train, i_held + train], 1)
        order = np.argsort(distances, 1, kind="stable")[:, :k]
        order = np.concatenate([order, np.tile([0, d_train.shape[1]], (len(order), 1))], 1)
        return Neighbours(np.take_along_axis(distances, order, 1), np.take_along_axis(indices, order, 1))


def _search(images: Array, train: Array, holdout: Array, phi: Feature, k: int, tell: Report, name: str) -> _Search:
    rows = Rows(images, phi)
    found = [
        nearest(rows, Rows(among, phi), k, lambda i, n, place=place: tell(f"{name}, {place}", i, n))  # type: ignore[misc]
        for place, among in (("training images", train), ("held-out images", holdout))
    ]
    return _Search(*found)


@dataclass(frozen=True)
class _Redrawn:
    """Training images (P, C, S, S) uint8, the generator's drawings of them, its errors on these and held-out ones."""

    targets: Array
    images: Array
    train_errors: Array
    holdout_errors: Array

    def errors(self) -> dict[str, Any]:
        """Mean distances in pixels of [0, 1], with their intervals."""
        return {
            "train": float(self.train_errors.mean()), "train_ci": measures.mean_ci(self.train_errors),
            "holdout": float(self.holdout_errors.mean()), "holdout_ci": measures.mean_ci(self.holdout_errors),
        }  # fmt: skip


def _redraw(gan: GAN, train: Array, holdout: Array, s: Settings, tell: Report) -> _Redrawn:
    rng = np.random.default_rng(s.seed)
    wanted = ((train, s.targets), (holdout, min(s.targets, _COMPARED)))
    picked = [images[rng.choice(len(images), min(n, len(images)), replace=False)] for images, n in wanted]
    every, n = np.concatenate(picked), len(picked[0])
    drawn = recover(gan, every, s.seed, tell)
    errors = measures.to_numpy((drawn - from_bytes(torch.from_numpy(every))).flatten(1).norm(dim=1) / 2)
    return _Redrawn(picked[0], to_bytes(drawn[:n]).numpy(), errors[:n], errors[n:])


def memorization(
    gan: GAN,
    train: Array,
    holdout: Array | None,
    phi: Feature,
    settings: Settings | None = None,
    report: Report | None = None,
    names: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> Result:
    """Test whether samples are nearer to training images (N, C, S, S) uint8 than to held-out ones of the same source.

    Arrays: `ratio` (M,) log d(g, T) / d(g, H); `edges`, `shuffled` the histogram of shuffled ones as a density; `null`
    (B,) and `statistic` (1,); `power` (shares, 4) share, rate and its interval; `suspects`, `suspects_train`,
    `suspects_holdout` (10, C, S, S) uint8 with `suspects_ratio`; `targets`, `recovered` images and their drawings.
    `names` of the training and of the held-out images, where they have such, name the suspects' nearest in `suspects`.
    Raises ProbeError for images of another shape, too few, or held-out images that are training images.
    """
    s, tell = settings or Settings(), report or (lambda *_: None)
    _checked(gan, train, holdout)
    samples = torch.cat([to_bytes(x).cpu() for x in gan.batches(gan.latents(s.samples, s.seed))]).numpy()
    if holdout is None:
        return _scores(gan, train, samples, phi, s, tell, names)
    t, h = len(train), len(holdout)
    k = copying.list_length(t, h, s.samples, s.permutations)
    found = _search(samples, train, holdout, phi, k, tell, "searching")
    near = found.merged(t, k)
    floor, shuffles = copying.floor_of(near), Permutations(t, h, s.permutations, s.seed)
    ratios = shuffles.ratios(near, floor)
    below = copying.thresholds(shuffles.ratios(near, floor, skip=1))
    tell("permutations", 1, 1)
    redrawn = _redraw(gan, train, holdout, s, tell)
    copies = _search(redrawn.images, train, holdout, phi, k, tell, "searching for planted copies")
    curve, z = _power_curve(ratios, shuffles.ratios(copies.merged(t, k), floor), below, (t, h), s, tell)
    share, interval = copying.copy_share(ratios, below, t, h)
    hit = hits(found.to_train, found.to_holdout, train, holdout, phi)
    exact = _search(redrawn.targets, train, holdout, phi, k, tell, "searching for exact copies")
    planted = {
        name: (
            shuffles.ratios(search.merged(t, k), floor),
            hits(search.to_train, search.to_holdout, train, holdout, phi),
        )
        for name, search in (("drawn", copies), ("exact", exact))
    }
    by_sources = _power_by_sources(ratios, hit, planted, below, (t, h), s, tell)
    most = hit.counts()
    p_hits = p_of_counts(*most, t)
    crowded = most[0] > s.samples / 2
    metrics = _verdict(copying.p_of(ratios), interval, curve, z, t, h, p_hits, by_sources["drawn"], crowded)
    metrics |= {
        "p_hits": p_hits,
        "most_hits": {"train": most[0], "holdout": most[1]},
        "hits": {"train": int((hit.train >= 0).sum()), "holdout": int((hit.holdout >= 0).sum())},
        "power_by_sources": by_sources,
        "statistic": float(copying.statistic(ratios[0])),
        "copy_share": share,
        "copy_share_ci": interval,
        "train_images": t,
        "holdout_images": h,
        "samples": s.samples,
        "distance": phi.name,
        "threshold": float(below[0]),
        **_descriptions(found.to_train, train, holdout, phi, s.samples),
        "recovery": redrawn.errors(),
        "power": {f"{100 * row[0]:g}": {"rate": row[1], "rate_ci": [row[2], row[3]]} for row in curve},
    }
    shuffled, edges = np.histogram(ratios[1:], 60, tuple(np.quantile(ratios, [0.0005, 0.9995])), density=True)
    arrays = {
        "ratio": ratios[0],
        "edges": edges,
        "shuffled": shuffled,
        "null": copying.statistic(ratios[1:]),
        "statistic": copying.statistic(ratios[:1]),
        "power": np.array(curve),
        "targets": redrawn.targets[:_SHOWN],
        "recovered": redrawn.images[:_SHOWN],
        **_suspects(samples, train, holdout, found, ratios[0]),
    }
    metrics |= _named(found, ratios[0], names)
    return Result("memorization", metrics, asdict(s), list(_ASSUMED), dict(gan.provenance), arrays)


_ASSUMED = (
    "T and H are a random split of one source, made before training; one distance, named before the run, decides",
    "S = -(mean of the lowest 5 % of r) - (mean of the highest 5 % of r), r = log d(g, T) / d(g, H): the upper tail "
    "is needed where much is copied, since shuffled labels leave half of the copies",
    "a small p alone says 'nearer to training images', which overfitting without copies gives too; no guarantee of "
    "privacy",
    "a sample hits an image where it lies within half of the distance to that image's nearest other image; the most "
    "hits of a training image against the most of a held-out one, by a binomial test times |T|; p_combined takes 0.9 of "
    "the level for the permutation, 0.1 for the hits",
    "copies planted for the power: the generator's own best drawings of training images, by gradient on the latents",
    "C_T over one cell (Meehan et al. 2020 use several); authenticity after Alaa et al. 2022; both only described",
)


def _power_curve(
    ratios: Array, planted: Array, below: Array, sizes: tuple[int, int], s: Settings, tell: Report
) -> tuple[list[list[float]], float]:
    """Rows of share, rate of detection and its Wilson interval; and the mean z of S at the largest share but one."""
    few, curve, scores = slice(0, 200), [], []
    for i, share in enumerate(SHARES):
        caught, z = copying.power(ratios[few], planted[few], share, below, sizes, s.draws, s.seed)
        curve.append([share, caught / s.draws, *measures.share_ci(caught, s.draws)])
        scores.append(z)
        tell("planting copies", i + 1, len(SHARES))
    return curve, scores[-2]


def _power_by_sources(
    ratios: Array,
    hit: Hits,
    planted: dict[str, tuple[Array, Hits]],
    below: Array,
    sizes: tuple[int, int],
    s: Settings,
    tell: Report,
) -> dict[str, dict[str, dict[str, float]]]:
    """Rates of detection by either criterion: by how well copies are drawn, number of copied images, share in %."""
    few, m = slice(0, 200), ratios.shape[1]
    made: dict[str, dict[str, dict[str, float]]] = {}
    for name, (copies, copies_hit) in planted.items():
        made[name] = {}
        every = copies.shape[1]
        for wanted in (*(n for n in SOURCES if n < every), None):
            rates = {}
            for share in SHARES:
                rng, caught = np.random.default_rng([s.seed, wanted or 0, round(1e4 * share)]), 0
                for _ in range(_DRAWS):
                    chosen = rng.choice(every, wanted or every, replace=False)
                    places = rng.choice(m, max(1, round(share * m)), replace=False)
                    which = rng.choice(chosen, len(places))
                    mixed, on_train, on_holdout = ratios[few].copy(), hit.train.copy(), hit.holdout.copy()
                    mixed[:, places] = copies[few][:, which]
                    on_train[places], on_holdout[places] = copies_hit.train[which], copies_hit.holdout[which]
                    p_hits = p_of_counts(*Hits(on_train, on_holdout).counts(), sizes[0])
                    caught += combined(1.0, p_hits) < 0.01 or (
                        combined(copying.p_of(mixed), 1.0) < 0.01 and copying.copy_share(mixed, below, *sizes)[1][0] > 0
                    )
                rates[f"{100 * share:g}"] = caught / _DRAWS
            made[name][str(wanted or "all")] = rates
            tell(f"planting {name} copies of few images", len(made[name]), len(SOURCES) + 1)
    return made


def _fewest(rates: dict[str, dict[str, float]]) -> tuple[str, float] | None:
    """The smallest number of copied images from which on copies would be caught, and the share that it takes."""
    found = None
    for sources, by_share in reversed(rates.items()):  # from all images down
        share = next((float(name) / 100 for name, rate in by_share.items() if rate >= CAUGHT), None)
        if share is None:
            break
        found = (sources, share)
    return found


def _verdict(
    p: float,
    interval: list[float],
    curve: list[list[float]],
    z: float,
    t: int,
    h: int,
    p_hits: float,
    by_sources: dict[str, dict[str, float]],
    crowded: bool,
) -> dict[str, Any]:
    """The verdict, the p-values, the share that would be caught, the reason in words, images needed if too few.

    `crowded` says that one training image has most samples near it: a generator that draws one picture whatever the latent,
    trained or not, lies near some image, and no count of hits tells that from a copy.
    """
    floor, fewest = next((row[0] for row in curve if row[1] >= CAUGHT), None), _fewest(by_sources)
    made: dict[str, Any] = {"verdict": "inconclusive", "p_value": p, "floor": None, "reason": "", "images_needed": None}
    made |= {"p_combined": combined(p, p_hits), "floor_sources": None}
    if crowded:
        reason = "most samples are near one training image: a generator that draws one picture only, copied or not"
        made |= {"reason": reason}
    elif combined(1.0, p_hits) < 0.01:
        reason = "one training image at least is drawn again and again, far more often than any held-out image"
        made |= {"verdict": "detected", "reason": reason}
    elif math.comb(t + h, t) < 1000:
        least = next(n for n in range(2, 1000) if math.comb(t + n, t) >= 1000)
        reason = f"{t} + {h} images have too few labellings for p < 0.01; hold out at least {least}"
        made |= {"reason": reason, "images_needed": t + least}
    elif combined(p, 1.0) < 0.01 and interval[0] > 0:
        made |= {
            "verdict": "detected",
            "reason": f"p < 0.01 (corrected for two criteria), and copies are at least {interval[0]:.1%} of the samples",
        }
    elif p >= 0.05 and floor is not None and fewest is not None:
        sources, share = fewest
        of = {"all": "of many training images", "1": "of a single training image"}.get(
            sources, f"of {sources} training images or more"
        )
        reason = (
            f"had {share:.0%} of the samples been copies {of}, drawn as this generator can, the test would have told"
        )
        if sources != "1":
            reason += "; copies of fewer images it may miss"
        made |= {"verdict": "not detected", "floor": floor, "reason": reason}
        made["floor_sources"] = {"sources": sources, "share": share}
    elif p >= 0.05:
        need = (
            math.ceil((t + h) * (3.2 / z) ** 2 / 100) * 100 if z > 0.5 else None
        )  # 2.33 + 0.84: 80 % at one-sided 0.01
        many = (
            f"roughly {need} images (both sets) would do for 10 %"
            if need and need > t + h
            else "more held-out images or samples are needed"
        )
        made |= {
            "reason": f"even {SHARES[-1]:.0%} of copies, drawn as this generator can, would be missed; {many}",
            "images_needed": need,
        }
    elif p < 0.01:
        made |= {
            "reason": "nearer to training images than chance allows, but no copies: overfitting, or copies too poor to tell"
        }
    else:
        made |= {"reason": f"p = {p:.3f} lies between 0.01 and 0.05; test more samples or hold out more images"}
    return made


def _descriptions(
    to_train: tuple[Array, Array], train: Array, holdout: Array | None, phi: Feature, samples: int
) -> dict[str, Any]:
    """C_T (negative: samples nearer to T than held-out images are) and authenticity, with its interval."""
    distances, indices = to_train[0][:, 0], to_train[1][:, 0]
    unique, place = np.unique(indices, return_inverse=True)
    own = nearest(Rows(train[unique], phi), Rows(train, phi), 2)[0][:, -1]  # the nearest other training image
    authentic = (distances > own[place]).astype(float)
    made = {"ct": None, "authenticity": float(authentic.mean()), "authenticity_ci": measures.mean_ci(authentic)}
    if holdout is not None:
        other = nearest(Rows(holdout[:samples], phi), Rows(train, phi), 1)[0][:, 0]
        m, n = len(distances), len(other)
        u = rankdata(np.concatenate([distances, other]))[:m].sum() - m * (m + 1) / 2
        made["ct"] = float((u - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12))
    return made


def _lowest(nearest_of: Array, score: Array) -> Array:
    """The samples of lowest score, one for each training image that is nearest."""
    order = np.argsort(score, kind="stable")
    first = np.sort(np.unique(nearest_of[order], return_index=True)[1])[:_SHOWN]
    return order[first]


def _named(found: _Search, score: Array, names: tuple[Sequence[str], Sequence[str]]) -> dict[str, Any]:
    """For each suspect its sample, the name of the training image nearest to it and of the held-out one."""
    train, holdout = names
    if not train:
        return {}
    rows = _lowest(found.to_train[1][:, 0], score)
    made = [{"sample": int(i), "train": train[found.to_train[1][i, 0]]} for i in rows]
    for row, i in zip(made, rows, strict=True):
        row |= {"holdout": holdout[found.to_holdout[1][i, 0]]} if holdout else {}
    return {"suspects": made}


def _suspects(samples: Array, train: Array, holdout: Array | None, found: _Search, score: Array) -> dict[str, Array]:
    """The samples of lowest score, one for each training image that is nearest, with their nearest images."""
    nearest_of = found.to_train[1][:, 0]
    rows = _lowest(nearest_of, score)
    made = {"suspects": samples[rows], "suspects_train": train[nearest_of[rows]], "suspects_ratio": score[rows]}
    if holdout is not None:
        made["suspects_holdout"] = holdout[found.to_holdout[1][rows, 0]]
    return made


def _scores(
    gan: GAN,
    train: Array,
    samples: Array,
    phi: Feature,
    s: Settings,
    tell: Report,
    names: tuple[Sequence[str], Sequence[str]],
) -> Result:
    """Without held-out images: nearest training images and authenticity, and no verdict."""
    to_train = nearest(Rows(samples, phi), Rows(train, phi), 1, lambda i, n: tell("searching", i, n))
    nothing = {"p_value": None, "p_hits": None, "p_combined": None, "floor_sources": None, "statistic": None, "copy_share": None, "copy_share_ci": None, "floor": None}  # fmt: skip
    reason = "no held-out images: nearness to training images alone proves nothing"
    metrics = {
        "verdict": "scores only",
        **nothing,
        "reason": reason,
        "images_needed": None,
        "train_images": len(train),
        "holdout_images": 0,
        "samples": s.samples,
        "distance": phi.name,
        **_descriptions(to_train, train, None, phi, s.samples),
    }
    distances = to_train[0][:, 0]
    metrics |= _named(_Search(to_train, to_train), distances, (names[0], ()))
    arrays = {"ratio": distances, **_suspects(samples, train, None, _Search(to_train, to_train), distances)}
    return Result("memorization", metrics, asdict(s), list(_ASSUMED[-1:]), dict(gan.provenance), arrays)
