"""The commands that are no questions, written out in modules of their own, which are imported when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Row:
    """A command: what it does, its group of the help, two examples, its page, its function as module:name, and options as they were called."""

    asks: str
    group: str
    examples: tuple[str, str]
    page: str
    call: str
    how: Mapping[str, Any] = field(default_factory=dict)
    was: Mapping[str, str] = field(default_factory=dict)


WRITTEN = {
    "inspect": Row(
        asks="Say what is in a checkpoint: format, architecture, prior and BatchNorm policy.",
        group="look",
        examples=("probe inspect --ckpt netG.pth", "probe inspect --ckpt netG.pth --disc netD.pth --json"),
        page="docs/checkpoints.md",
        call="probe.cli.inspect:inspect",
    ),
    "export": Row(
        asks="Write a generator for code that knows nothing of probe: plain PyTorch, or ONNX.",
        group="results",
        examples=("probe export --ckpt no-hats.safetensors", "probe export --ckpt netG.pth --to onnx --out netG.onnx"),
        page="docs/checkpoints.md",
        call="probe.cli.export:export",
    ),
    "push": Row(
        asks="Make a model card and the files of a Hugging Face repository; --upload sends them.",
        group="results",
        examples=(
            "probe push me/no-hats --ckpt no-hats.safetensors --result out/forget",
            "probe push me/no-hats --ckpt no-hats.safetensors --out out/push-2 --upload",
        ),
        page="docs/checkpoints.md",
        call="probe.cli.push:push",
    ),
    "label": Row(
        asks="Open a local page to mark objects on samples, choose exemplars and switch units.",
        group="look",
        examples=("probe label --ckpt netG.pth --labels boxes.json", "probe label -n 400 --seed 3"),
        page="docs/pages.md",
        call="probe.cli.label:label",
        was={"--n": "--samples"},
    ),
    "train": Row(
        asks="Train a DCGAN by the paper's recipe; the checkpoint is OUT/checkpoint.safetensors.",
        group="data",
        examples=(
            "probe train --data path/to/images --holdout 500 --out out/mine",
            "probe train --data path/to/images --out out/mine --steps 20000 --resume",
        ),
        page="docs/data.md",
        call="probe.cli.train:train",
        was={"--noise": "--instance-noise"},
    ),
    "report": Row(
        asks="Ask everything that checkpoints allow: one HTML page, self-contained.",
        group="results",
        examples=(
            "probe report --ckpt netG.pth --disc netD.pth",
            "probe report --ckpt epoch5.pth --ckpt epoch25.pth --quick",
        ),
        page="docs/pages.md",
        call="probe.cli.report:report",
    ),
    "draw": Row(
        asks="Draw a result's figure again, for a column of a paper, a talk or a notebook.",
        group="results",
        examples=("probe draw out/forget --width icml-column", "probe draw out/forget/figure.png --where"),
        page="docs/pages.md",
        call="probe.cli.figures:draw",
    ),
    "compare": Row(
        asks="Say what changed between two results, or folders of them; exit 1 where something did.",
        group="results",
        examples=("probe compare baseline new", "probe compare baseline new --rtol 0.01 --json"),
        page="docs/pages.md",
        call="probe.cli.figures:compare",
    ),
    "rerun": Row(
        asks="Repeat the command that made a result, and compare; exit 1 where it comes out otherwise.",
        group="results",
        examples=("probe rerun out/forget --ckpt path/to/netG.pth", "probe rerun out/walk --seed 1 --out out/again"),
        page="docs/pages.md",
        call="probe.cli.figures:rerun",
        how={"context_settings": {"allow_extra_args": True, "ignore_unknown_options": True}},
    ),
}
