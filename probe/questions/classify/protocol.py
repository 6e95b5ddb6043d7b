"""What a run of `classify` is set to, and what was done where the paper is silent."""

from __future__ import annotations

from dataclasses import dataclass

from probe.base.errors import ProbeError
from probe.questions.classify.representation import Views

BASELINES = ("pixels", "random_weights", "kmeans", "supervised")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A run of `classify`.

    `costs` are the values of C tried, on features of mean 0 and variance 1/D if `standardised`, else as they are.
    `validation` images are split off to choose among them. With `label_count`, the classifier is fitted to that many images
    drawn with equally many of each class: `choosing` draws to choose C and `draws` to test. `statistics` is the number
    of training images that BatchNorm statistics are estimated from, 0 for all. `means` adds the mean of each pooled
    cell to its largest value; `flips` adds the mirror image of each training image and averages scores over both, `shifts`
    adds copies of these moved by up to so many pixels, to be fitted to alone.
    `centroids` is the number of the K-means baseline, `supervised_steps` the length of the supervised one.
    """

    costs: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0)
    validation: int = 5000
    label_count: int = 0
    draws: int = 1
    choosing: int = 10
    standardised: bool = True
    statistics: int = 10_000
    means: bool = False
    flips: bool = False
    shifts: int = 0
    baselines: tuple[str, ...] = BASELINES
    centroids: int = 1600
    supervised_steps: int = 600
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.costs or not all(0 < c <= 1e6 for c in self.costs) or list(self.costs) != sorted(self.costs):
            raise ProbeError(f"costs {self.costs}: expected positive numbers up to 1e6, in ascending order")
        for name in ("validation", "draws", "choosing", "centroids", "supervised_steps"):
            if getattr(self, name) < 1:
                raise ProbeError(f"{name} {getattr(self, name)}: expected at least 1")
        unknown = [name for name in self.baselines if name not in BASELINES]
        if unknown:
            raise ProbeError(f"baseline {unknown[0]}: expected some of {', '.join(BASELINES)}")
        if self.draws > 1 and not self.label_count:
            raise ProbeError(f"draws {self.draws} without a number of labels to draw; pass `label_count`, too")
        if not 0 <= self.shifts <= 8:
            raise ProbeError(f"shifts {self.shifts}: expected 0 to 8 pixels")
        if self.label_count and self.views.count > 1:
            raise ProbeError(
                "flips or shifts with a number of labels: not measured that way; leave them or `label_count` out"
            )

    @property
    def views(self) -> Views:
        """What is described beside each image."""
        return Views(self.flips, self.shifts, self.seed)


SVHN_1000 = Settings(
    costs=(1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2), validation=10_000, label_count=1000, draws=100, choosing=10,
    standardised=False, statistics=0,
)  # fmt: skip
"""The protocol of the authors' script for Table 2: LinearSVC on features as they are, 1,000 labels, 100 draws."""


def assumed(s: Settings) -> list[str]:
    """Where the paper is silent, what was done."""
    how = "of mean 0 and variance 1/D each, as measured on all training images" if s.standardised else "as they are"
    bn = f"{s.statistics:,}" if s.statistics else "all"
    costs = ", ".join(f"{c:g}" for c in s.costs)
    choice = (
        f"the best of {costs} on {s.validation:,} images split off the training set"
        if len(s.costs) > 1
        else f"{costs}, as given"
    )
    notes = [
        f"features: {how}; pooled after the activation{', the mean of each cell beside its largest value' if s.means else ''}",
        f"BatchNorm statistics of D, trained or not, are estimated from {bn} training images, without labels",
        f"C: {choice}; the bias is regularised, as LinearSVC does",
    ]
    if s.views.count > 1:
        more = ["its mirror image"] * s.flips + [f"copies moved by up to {s.shifts} px"] * (s.shifts > 0)
        scored = "; test scores are means over an image and its mirror image" if s.flips else ""
        notes.append(f"each training image is joined by {' and '.join(more)}{scored}")
    if s.label_count:
        notes.append(
            f"C by the mean over {s.choosing} draws of {s.label_count} labels; for other numbers of labels the same C"
        )
        notes.append(
            f"accuracy: mean and bootstrap interval over {s.draws} draws of labels"
            if s.draws > 1
            else "one draw: Wilson's interval over test images"
        )
    else:
        notes.append("accuracy: fitted again to all training images with that C; Wilson's interval over test images")
    notes.append("layers: validation accuracy of each layer's features alone, with the C of all")
    if "supervised" in s.baselines:
        notes.append(
            f"supervised: the same network, {s.supervised_steps} steps of 128 images, Adam, cross-entropy; a short training, not the best there is"
        )
    if "kmeans" in s.baselines:
        notes.append(
            f"K-means: {s.centroids} centroids (Coates, Lee and Ng 2011), features standardised; the paper quotes 4,800 and more"
        )
    return notes
