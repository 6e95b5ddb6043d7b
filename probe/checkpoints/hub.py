"""Checkpoints of the Hugging Face Hub: hf:owner/name[@revision][/file].

    fetch(spec)    the file, or the folder of a repository's weight files, in the Hub's own cache on this machine

Weights alone are fetched, by huggingface_hub; no code of a repository is. HF_ENDPOINT, HF_TOKEN and HF_HOME mean what they
always mean.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from probe.base.errors import ProbeError

PREFIX = "hf:"
SPEC = re.compile(r"hf:([\w.-]+/[\w.-]+?)(?:@([^/@]+))?(?:/(.+))?")
_EXTRA = ("config.json",)  # lies beside weights in many repositories, and is no checkpoint
MAX_BYTES = 4 * 2**30


def fetch(spec: str, suffixes: Sequence[str]) -> Path:
    """The file that hf:owner/name[@revision]/file names, or a folder with all of a repository's that end in `suffixes`.

    Raises ProbeError, one line, where the repository, revision or file is unknown or gated, the network cannot be reached
    and the cache has no copy, or huggingface_hub is not installed.
    """
    from probe.checkpoints.containers import require

    match = SPEC.fullmatch(spec)
    if match is None or ".." in spec:
        raise ProbeError(f"{spec}: expected hf:owner/name, hf:owner/name@revision or hf:owner/name/file")
    require("huggingface_hub", spec)
    import huggingface_hub as hub

    repository, revision, file = match.groups()
    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        if file is not None:
            return Path(hub.hf_hub_download(repository, file, revision=revision, endpoint=endpoint))
        found = hub.HfApi(endpoint=endpoint).model_info(repository, revision=revision, files_metadata=True)
        wanted = {
            one.rfilename: one.size or 0 for one in found.siblings or [] if one.rfilename.endswith(tuple(suffixes))
        }
        if not wanted:
            names = ", ".join(one.rfilename for one in (found.siblings or [])[:5]) or "nothing"
            raise ProbeError(f"{spec}: no weights in this repository (found {names}); expected {', '.join(suffixes)}")
        if sum(wanted.values()) > MAX_BYTES:
            raise ProbeError(
                f"{spec}: {sum(wanted.values()):,} bytes of weights; name the file: {spec}/{min(wanted, key=wanted.__getitem__)}"
            )
        places = [Path(hub.hf_hub_download(repository, name, revision=found.sha, endpoint=endpoint)) for name in wanted]
    except ProbeError:
        raise
    except Exception as error:  # the Hub's own errors, and those of the network below it
        raise ProbeError(f"{spec}: {reason(error)}") from None
    depths = [name.count("/") for name in wanted]
    flat = [place for place, depth in zip(places, depths, strict=True) if depth == min(depths)]
    return flat[0] if len(flat) == 1 else flat[0].parent


def reason(error: Exception) -> str:
    """What went wrong, in one line that says what to do."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "GatedRepoError" in kinds:
        return "the repository is gated; ask for access on its page, then set HF_TOKEN"
    if "RepositoryNotFoundError" in kinds:
        return "no such repository, or a private one; check the name, or set HF_TOKEN"
    if "RevisionNotFoundError" in kinds:
        return "no such revision; check what stands behind @"
    if "RemoteEntryNotFoundError" in kinds or (
        "EntryNotFoundError" in kinds and "LocalEntryNotFoundError" not in kinds
    ):
        return "no such file in the repository; leave it out to see what there is"
    if kinds & {
        "LocalEntryNotFoundError",
        "OfflineModeIsEnabled",
        "ConnectError",
        "ConnectionError",
        "TimeoutException",
    }:
        return "the Hub cannot be reached, and nothing of it is in the cache; go online, or pass a local file"
    return " ".join(str(error).split())[:160] or type(error).__name__
