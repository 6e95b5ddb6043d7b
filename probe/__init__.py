"""probe: look inside a trained DCGAN and operate on it.

>>> import probe
>>> probe.__version__.count(".")
2
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "GAN": "probe.models.gan",
    "load": "probe.checkpoints",
    "save": "probe.checkpoints",
    "describe": "probe.checkpoints",
    "train": "probe.training.loop",
    "Result": "probe.results.result",
    "ProbeError": "probe.base.errors",
    **dict.fromkeys(
        (
            "sample", "walk", "guided_backprop", "dissect", "ablate", "insert", "forget", "arithmetic", "turn",
            "memorization", "evaluate", "classify", "dedup",
        ),
        "probe.questions.calls",
    ),
}  # fmt: skip
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    """Public names are imported when first used: importing probe imports neither torch nor matplotlib."""
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'probe' has no attribute {name!r}")
