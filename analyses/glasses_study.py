"""Are the glasses gone, is the face damaged? 100 wearers and 100 others, the order blinded (a minute).

Samples: analyses/labels/faces-glasses-study.json, fresh ones, chosen by eye before any edit. Each is shown unedited, after
the paper's rule and after erasure as figures/faces_glasses, or figures/faces_glasses_all, fitted them: 600 pictures in one
random order. Four automated observers each time (a vision-language model shown the sheets, no panel of people), who did
not know what was done said of each whether it wears glasses and whether the face is damaged:
analyses/labels/faces-glasses-answers*.json. Run with --sheets FOLDER to make the pictures they saw.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from analyses.blinded import agreement, rates, seen, sheets
from analyses.common import FIGURES, arguments, publish
from analyses.faces_glasses import LABELS, RUNS
from probe import labels, surgery
from probe.checkpoints import load
from probe.forgetting import feature_maps
from probe.gan import GAN, support, to_bytes
from probe.layers import resolve
from probe.probing import Labelled
from probe.result import Result
from probe.result import load as load_result

STUDIES = {
    "glasses_study": ("faces_glasses", "faces-glasses-answers"),
    "glasses_study_all": ("faces_glasses_all", "faces-glasses-answers-all"),
}
ORDER_SEED, SEED, SHOWN = 20261125, 0, 10
CONDITIONS = ("before", "erase", "paper")


def operated(gan: GAN, fitted: str) -> dict[str, GAN]:
    """The generators that a figure of faces_glasses measured, fitted again from its layers, doses and labels."""
    methods = load_result(FIGURES / fitted).metrics["methods"]
    erase, paper = methods["erase"], methods["paper"]
    boxes = labels.load(LABELS / f"{RUNS[fitted][1]}.coco.json", "glasses", gan.size)
    place = resolve(gan, erase["layers"][0])
    z = gan.latents(max(boxes.images) + 1, boxes.seed or 0)[list(boxes.images)]
    known = Labelled(feature_maps(gan, z, [place]), boxes, gan.size, np.arange(len(z)))
    latents = z[known.boxed], z[~known.boxed]
    found = surgery.fit_patch(latents, known.inside(place.name, SEED), erase["boundary"], support(gan.prior))
    return {
        "before": gan,
        "erase": surgery.patch(gan, place.name, found, erase["dose"]),
        "paper": surgery.ablate(gan, paper["layers"][0], paper["units"]),
    }


def main() -> None:
    parser = arguments(__doc__, ckpt=None)
    parser.add_argument("--ckpt", required=True, help="weights.tar")
    parser.add_argument("--study", choices=STUDIES, default="glasses_study", help="which edits were judged")
    parser.add_argument("--sheets", type=Path, help="only write the pictures to be judged")
    args = parser.parse_args()
    gan = load(args.ckpt)
    fitted, told = STUDIES[args.study]
    study = json.loads((LABELS / "faces-glasses-study.json").read_text())
    who = study["wearers"] + study["non_wearers"]
    z = gan.latents(max(who) + 1, study["seed"])[who]
    images = np.concatenate([to_bytes(g.images(z)).numpy() for g in operated(gan, fitted).values()])
    order = np.random.default_rng(ORDER_SEED).permutation(len(images))
    if args.sheets:
        return sheets(images, order, args.sheets)
    answers = json.loads((LABELS / f"{told}.json").read_text())["observers"]
    metrics = rates(answers, order, CONDITIONS, len(study["wearers"]), len(who))
    still = np.flatnonzero(seen(answers, "glasses", order).mean(0)[len(who) :][: len(study["wearers"])] == 1)
    grids = images.reshape(len(CONDITIONS), len(who), *images.shape[1:])
    arrays = {f"first_{c}": grids[k, :SHOWN] for k, c in enumerate(CONDITIONS)}
    arrays |= {f"failed_{c}": grids[k, still[:SHOWN]] for k, c in enumerate(CONDITIONS)}
    counts = {"wearers": len(study["wearers"]), "others": len(study["non_wearers"]), "observers": len(answers)}
    found = {**counts, "conditions": metrics, "agreement": agreement(answers)}
    notes = [study["about"], "rates are means over observers; intervals resample faces, not observers"]
    result = Result("study", found, {"order_seed": ORDER_SEED}, notes, arrays=arrays)
    publish(result, gan, args.study, args.out, SEED)
    for name, m in metrics.items():
        print(name, {k: round(v, 3) for k, v in m.items() if isinstance(v, float)})
    print("agreement", found["agreement"])


if __name__ == "__main__":
    main()
