"""`probe inspect`: what is in a checkpoint, and how that is known."""

from __future__ import annotations

from probe.cli.options import (
    AsJson,
    Batchnorm,
    Ckpt,
    Class,
    Device,
    Disc,
    Model,
    PriorOption,
    Quiet,
    Strict,
    load_gan,
    print_json,
)


def inspect(
    ckpt: Ckpt = "rooms",
    disc: Disc = None,
    model: Model = None,
    prior: PriorOption = None,
    batchnorm: Batchnorm = None,
    label: Class = None,
    strict: Strict = False,
    device: Device = "cpu",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say what is in a checkpoint."""
    from probe.checkpoints import describe, evidence
    from probe.models.hooks import sites

    gan = load_gan(ckpt, disc, model, prior, device, batchnorm=batchnorm, label=label, strict=strict, quiet=quiet)
    found = describe(gan)
    if as_json:
        print_json(found)
    if as_json or quiet:
        return
    for key, value in found.items():
        if key != "consistency":  # which is told below
            text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
            print(f"{key:14} {text if text is not None else 'none'}")
    known = sites(gan)
    print("layers        ", "; ".join(f"{s} rank {s.rank} or {s.rank - len(known) - 1}" for s in known))
    print("\n".join(evidence(gan)))
