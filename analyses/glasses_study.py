"""Are the glasses gone, is the face damaged? 100 wearers and 100 others, the order blinded (a minute).

Samples: analyses/labels/faces-glasses-study.json, fresh ones, chosen by eye before any edit. Each is shown unedited, after
the paper's rule and after erasure as figures/faces_glasses fitted them: 600 pictures in one random order. Four
automated observers (a vision-language model shown the sheets, no panel of people) who did not know what was done said
of each whether it wears glasses and whether the face is damaged: analyses/labels/faces-glasses-answers.json. Run with --sheets FOLDER to make the pictures they saw.
"""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from analyses.common import FIGURES, arguments, publish
from probe import labels, surgery
from probe.checkpoints import load
from probe.forgetting import feature_maps
from probe.gan import GAN, support, to_bytes
from probe.layers import resolve
from probe.measures import mean_ci
from probe.probing import Labelled
from probe.result import Result
from probe.result import load as load_result

LABELS = Path(__file__).parent / "labels"
ORDER_SEED, COLUMNS, ROWS, SEED, SHOWN = 20261125, 8, 6, 0, 10
CONDITIONS = ("before", "erase", "paper")


def operated(gan: GAN) -> dict[str, GAN]:
    """The generators that figures/faces_glasses measured, fitted again from its layers, doses and labels."""
    fitted = load_result(FIGURES / "faces_glasses").metrics
    methods = fitted["methods"]
    boxes = labels.load(LABELS / "faces-glasses.coco.json", "glasses", gan.size)
    erase, paper = methods["erase"], methods["paper"]
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


def sheets(images: np.ndarray, order: np.ndarray, folder: Path) -> None:
    """Numbered contact sheets in the blinded order."""
    folder.mkdir(parents=True, exist_ok=True)
    for page in range(-(-len(order) // (COLUMNS * ROWS))):
        sheet = Image.new("RGB", (COLUMNS * 152, ROWS * 170), "white")
        pen = ImageDraw.Draw(sheet)
        for k, item in enumerate(order[page * COLUMNS * ROWS :][: COLUMNS * ROWS]):
            y, x = divmod(k, COLUMNS)
            sheet.paste(Image.fromarray(images[item].transpose(1, 2, 0)).resize((148, 148)), (x * 152, y * 170 + 18))
            pen.text((x * 152 + 4, y * 170), str(page * COLUMNS * ROWS + k), fill="black")
        sheet.save(folder / f"sheet{page:02d}.png")


def tally(answers: list[dict[str, list[int]]], order: np.ndarray, wearers: int, n: int) -> dict[str, dict[str, object]]:
    """Of each condition: glasses seen on wearers and others, faces damaged; each with its interval over faces."""
    place = np.argsort(order)  # where an item was shown
    seen = {
        k: np.mean([np.array(a[k])[place] for a in answers], 0).reshape(len(CONDITIONS), n)
        for k in ("glasses", "damaged")
    }
    out: dict[str, dict[str, object]] = {}
    for c, condition in enumerate(CONDITIONS):
        rates = {
            "glasses_on_wearers": seen["glasses"][c, :wearers],
            "glasses_on_others": seen["glasses"][c, wearers:],
            "damaged": seen["damaged"][c],
            "damaged_beyond_before": seen["damaged"][c] - seen["damaged"][0],
        }
        out[condition] = {k: float(v.mean()) for k, v in rates.items()} | {
            f"{k}_ci": mean_ci(v) for k, v in rates.items()
        }
    return out


def main() -> None:
    parser = arguments(__doc__, ckpt=None)
    parser.add_argument("--ckpt", required=True, help="weights.tar")
    parser.add_argument("--sheets", type=Path, help="only write the pictures to be judged")
    args = parser.parse_args()
    gan = load(args.ckpt)
    study = json.loads((LABELS / "faces-glasses-study.json").read_text())
    who = study["wearers"] + study["non_wearers"]
    z = gan.latents(max(who) + 1, study["seed"])[who]
    images = np.concatenate([to_bytes(g.images(z)).numpy() for g in operated(gan).values()])
    order = np.random.default_rng(ORDER_SEED).permutation(len(images))
    if args.sheets:
        sheets(images, order, args.sheets)
        return
    answers = json.loads((LABELS / "faces-glasses-answers.json").read_text())["observers"]
    metrics = tally(answers, order, len(study["wearers"]), len(who))
    pairs = list(combinations(answers, 2))
    agree = {k: float(np.mean([np.equal(a[k], b[k]) for a, b in pairs])) for k in ("glasses", "damaged")}
    place = np.argsort(order)
    still = np.flatnonzero(
        np.mean([np.array(a["glasses"])[place] for a in answers], 0)[len(who) :][: len(study["wearers"])] == 1
    )
    grids = images.reshape(len(CONDITIONS), len(who), *images.shape[1:])
    arrays = {f"first_{c}": grids[k, :SHOWN] for k, c in enumerate(CONDITIONS)}
    arrays |= {f"failed_{c}": grids[k, still[:SHOWN]] for k, c in enumerate(CONDITIONS)}
    counts = {"wearers": len(study["wearers"]), "others": len(study["non_wearers"]), "observers": len(answers)}
    result = Result(
        "study", {**counts, "conditions": metrics, "agreement": agree}, {"order_seed": ORDER_SEED}, arrays=arrays
    )
    result.assumptions = [study["about"], "rates are means over observers; intervals resample faces, not observers"]
    publish(result, gan, "glasses_study", args.out, SEED)
    for name, m in metrics.items():
        print(name, {k: round(v, 3) for k, v in m.items() if isinstance(v, float)})
    print("agreement", agree)


if __name__ == "__main__":
    main()
