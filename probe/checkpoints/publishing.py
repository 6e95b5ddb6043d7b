"""A GAN as a repository on the Hugging Face Hub: its weights, plain PyTorch, and a card that says what it is.

card(gan, repository, results)         the model card, README.md
prepare(gan, repository, folder, ...)  the files of the repository, in a folder
upload(folder, repository, private)    the same on the Hub
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from probe.base.errors import ProbeError
from probe.checkpoints import hub
from probe.checkpoints.export import save
from probe.checkpoints.standalone import export
from probe.models.dcgan import Generator
from probe.models.gan import GAN
from probe.results.result import Result, load

_WEIGHTS = "checkpoint.safetensors"


def card(gan: GAN, repository: str, results: Sequence[Result] = ()) -> str:
    """A model card in Markdown: what the model is, where it is from, how it was read and what was found, how to use it.

    Whatever is not known is said to be so; the licence is left to whoever publishes.
    """
    known, low = gan.provenance, "N(0, 1)" if gan.prior == "normal" else "U(-1, 1)"
    lines = ["---", "library_name: dcgan-probe", "pipeline_tag: unconditional-image-generation"]
    lines += ["tags: [dcgan, gan, interpretability]", "---", "", f"# {repository.partition('/')[2]}", ""]
    what = f"A DCGAN generator: {gan.nz} latents from {low} to images of {gan.channels} x {gan.size} x {gan.size} in [-1, 1]"
    lines += [f"{what}{', and its discriminator' if gan.discriminator else ''}.", ""]
    lines += ["## Where it is from", ""]
    lines += [f"- checkpoint: {known.get('checkpoint') or 'not known'}, SHA-256 {known.get('sha256') or 'not known'}"]
    run = known.get("training") or {}
    if run.get("source"):
        lines += [f"- trained by probe on {run['source']}, {run.get('steps', 'an unknown number of')} steps"]
    else:
        lines += ["- training data: not known to probe"]
    lines += [f"- edited: {edit}" for edit in known.get("edits", [])]
    for role, found in known.get("consistency", {}).items():
        distance = (
            f", distance {found['score']:.3f} from its BatchNorm statistics" if found.get("score") is not None else ""
        )
        lines += [f"- {role} as it was read: {found['verdict']}{distance}"]
    if results:
        lines += ["", "## What was found", ""]
    for result in results:
        said = result.summary()
        numbers = "".join(f"; {name} {value}" for name, value in said.numbers.items())
        lines += [f"- `probe {result.command}`: {said.verdict}{numbers}"]
    lines += ["", "## Use", "", "```sh", f"probe sample --ckpt hf:{repository}/{_WEIGHTS}", "```", ""]
    if isinstance(gan.generator, Generator):
        lines += ["Without probe, with torch alone:", "", "```python", "import torch", "from generator import load", ""]
        z = f"torch.randn(4, {gan.nz})" if gan.prior == "normal" else f"torch.rand(4, {gan.nz}) * 2 - 1"
        lines += [f"images = load()({z})", "```", ""]
    lines += [
        "## Limits",
        "",
        "An edit suppresses what it was measured to suppress, at inference; it is no proof that the weights have",
    ]
    lines += [
        "forgotten it. What was measured is in the results beside this card."
        if results
        else "forgotten it. Nothing was measured here.",
        "",
    ]
    return "\n".join(lines)


def prepare(gan: GAN, repository: str, folder: Path, results: Sequence[Path] = ()) -> list[Path]:
    """Write the files of a repository into a new folder; returns them.

    Raises ProbeError where the folder is there already, and for a repository's name that cannot be.
    """
    if hub.SPEC.fullmatch(f"hf:{repository}") is None or "@" in repository or repository.count("/") != 1:
        raise ProbeError(f"`repository` {repository}: expected owner/name, as the Hub calls it")
    if folder.exists():
        raise ProbeError(f"{folder}: is there already; remove it, or choose another folder")
    told = [load(place) for place in results]
    folder.mkdir(parents=True)
    try:
        save(gan, folder / _WEIGHTS)
        if isinstance(gan.generator, Generator):
            export(gan, folder / "generator.py")
        for place, result in zip(results, told, strict=True):
            shutil.copytree(place, folder / "results" / f"{place.resolve().name}-{result.command}")
        (folder / "README.md").write_text(card(gan, repository, told), encoding="utf-8")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return sorted(path for path in folder.rglob("*") if path.is_file())


def upload(folder: Path, repository: str, private: bool = False) -> str:
    """Make a repository on the Hub, or take the one that is there, and upload a folder; returns its address.

    Raises ProbeError, one line, where the Hub refuses or cannot be reached.
    """
    from probe.checkpoints.containers import require

    require("huggingface_hub", repository)
    import huggingface_hub

    api: Any = huggingface_hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
    try:
        made = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload by probe")
    except Exception as error:  # the Hub's own errors, and those of the network below it
        raise ProbeError(f"{repository}: {hub.reason(error)}") from None
    return str(made)
