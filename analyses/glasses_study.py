"""Are the glasses gone, is the face damaged? 100 wearers and 100 others, the order blinded (a minute).

Samples: analyses/labels/faces-glasses-study.json, and -fresh of it, chosen by eye before any edit. Each is shown
unedited, after the paper's rule and after an erasure that a run of faces_glasses.py had chosen (STUDIES; with
segmenters fitted anew it has since chosen another layer): 600 pictures in one random order. Four automated observers
each time (a vision-language model shown the sheets, no panel of people), who did not know what was done said of each
whether it wears glasses and whether the face is damaged: analyses/labels/faces-glasses-answers*.json. The first two
studies were of a narrower erasure, before a gate as wide as boundary 0 was among those tried; it was tried after seeing
what they left, so its study is on faces that no study had used. glasses_study_gates shows the wider and the narrower
one on the same faces to the same observers. Run with --sheets FOLDER to make the pictures to be judged.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analyses.blinded import Judged, agreement, difference, rates, sheets
from analyses.common import FIGURES, arguments, publish
from analyses.faces_glasses import LABELS, RUNS
from probe.checkpoints import load
from probe.concepts import labels
from probe.concepts.probing import LabelledMaps
from probe.edits import surgery
from probe.models.gan import GAN, support, to_bytes
from probe.models.hooks import feature_maps, resolve
from probe.results.result import Result
from probe.results.result import load as load_result


@dataclass(frozen=True)
class Study:
    """What was judged: the erasure of a figure's labels at a layer, boundary and strength; on which faces; by whom.

    Beside it stands the paper's rule, or with `narrow` the same erasure at another boundary and strength.
    """

    fitted: str
    layer: str
    boundary: float
    strength: float
    faces: str
    answers: str
    narrow: tuple[float, float] | None = None


STUDIES = {
    "glasses_study": Study("faces_glasses", "layer2", 0.25, 1.0, "faces-glasses-study", "faces-glasses-answers"),
    "glasses_study_all": Study(
        "faces_glasses_all", "layer2", 0.25, 1.25, "faces-glasses-study", "faces-glasses-answers-all"
    ),
    "glasses_study_fresh": Study(
        "faces_glasses", "layer2", 0.0, 2.0, "faces-glasses-study-fresh", "faces-glasses-answers-fresh"
    ),
    "glasses_study_gates": Study(
        "faces_glasses", "layer2", 0.0, 2.0, "faces-glasses-study-fresh", "faces-glasses-answers-gates", (0.25, 1.0)
    ),
}
ORDER_SEED, SEED, SHOWN = 20261125, 0, 10


def operated(gan: GAN, study: Study) -> dict[str, GAN]:
    """The generators of a study, fitted again from its labels."""
    paper = load_result(FIGURES / study.fitted).metrics["methods"]["paper"]
    concept, file = RUNS[study.fitted]
    boxes = labels.load(LABELS / f"{file}.coco.json", concept, gan.size)
    place = resolve(gan, study.layer)
    z = gan.latents(max(boxes.images) + 1, boxes.seed or 0)[list(boxes.images)]
    known = LabelledMaps(feature_maps(gan, z, [place.name]), boxes, gan.size, np.arange(len(z)))
    latents = z[known.boxed], z[~known.boxed]
    inside = known.inside(place.name, SEED)

    def erase(boundary: float, strength: float) -> GAN:
        found = surgery.fit_patch(latents, inside, boundary, support(gan.prior))
        return surgery.patch(gan, place.name, found, strength)

    if study.narrow:
        other = {"narrow": erase(*study.narrow)}
    else:
        other = {"paper": surgery.ablate(gan, paper["layers"][0], paper["units"])}
    return {"before": gan, "patch": erase(study.boundary, study.strength), **other}


def main() -> None:
    parser = arguments(__doc__, ckpt=None)
    parser.add_argument("--ckpt", required=True, help="weights.tar")
    parser.add_argument("--study", choices=STUDIES, default="glasses_study_fresh", help="which edits were judged")
    parser.add_argument("--sheets", type=Path, help="only write the pictures to be judged")
    args = parser.parse_args()
    gan = load(args.ckpt)
    study = STUDIES[args.study]
    faces = json.loads((LABELS / f"{study.faces}.json").read_text())
    positives, others = faces["wearers"], faces["non_wearers"]
    who = positives + others
    z = gan.latents(max(who) + 1, faces["seed"])[who]
    generators = operated(gan, study)
    images = np.concatenate([to_bytes(g.images(z)).numpy() for g in generators.values()])
    order = np.random.default_rng(ORDER_SEED).permutation(len(images))
    if args.sheets:
        return sheets(images, order, args.sheets, columns=6, rows=4, side=224)
    answers = json.loads((LABELS / f"{study.answers}.json").read_text())["observers"]
    judged = Judged.of(answers, order, RUNS[study.fitted][0], len(positives), len(who))
    metrics = rates(judged, list(generators))
    still = np.flatnonzero(judged.seen[1, : len(positives)] == 1)  # after patching
    grids = images.reshape(len(generators), len(who), *images.shape[1:])
    arrays = {f"first_{c}": grids[k, :SHOWN] for k, c in enumerate(generators)}
    arrays |= {f"failed_{c}": grids[k, still[:SHOWN]] for k, c in enumerate(generators)}
    counts = {"positives": len(positives), "others": len(others), "observers": len(answers)}
    found = {**counts, "conditions": metrics, "agreement": agreement(answers)}
    if study.narrow:
        found["narrow_less_patch"] = difference(judged, 2, 1)
    notes = [faces["about"], "rates are means over observers; intervals resample faces, not observers"]
    result = Result("study", found, {"order_seed": ORDER_SEED}, notes, arrays=arrays)
    publish(result, gan, args.study, args.out, SEED)
    for name, m in metrics.items():
        print(name, {k: round(v, 3) for k, v in m.items() if isinstance(v, float)})
    print("agreement", found["agreement"])


if __name__ == "__main__":
    main()
