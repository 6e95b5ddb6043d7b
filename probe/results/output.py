"""The folder that a result is written to: appears whole or not at all, and never in the place of something else."""

from __future__ import annotations

import os
import re
from pathlib import Path

from probe.base.errors import ProbeError

_OF_A_RESULT = re.compile(
    r"result\.json|arrays\.safetensors|figure\.(png|pdf|svg)|caption\.(tex|txt)|(table|units)\.(csv|tex)|"
    r"exclude\.json|atlas\.pdf|walk\.gif|images/\d{6}\.png|compared/.*|(.*/)?\.DS_Store"
)


def check_output(out: Path) -> None:
    """Refuse, before any work, to replace a folder that is not a result of probe, or that holds more than one."""
    if out.exists() and not (out.is_dir() and ((out / "result.json").exists() or not any(out.iterdir()))):
        raise ProbeError(f"{out}: exists and is not a result of probe; choose another folder")
    held = (path for path in out.rglob("*") if not path.is_dir() or path.is_symlink())
    names = (path.relative_to(out).as_posix() for path in held)
    foreign = next((name for name in names if not _OF_A_RESULT.fullmatch(name)), None)
    if foreign:
        raise ProbeError(
            f"{out}: holds {foreign}, which is no part of a result and would be lost; move it or choose another folder"
        )
    parent = next(p for p in (out, *out.resolve().parents) if p.exists())
    if not os.access(parent, os.W_OK):
        raise ProbeError(f"{out}: cannot write there (permission denied in {parent}); choose another folder")
