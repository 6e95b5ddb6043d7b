"""`probe inspect`: what is in a checkpoint, and how that is known."""

from __future__ import annotations

from probe.cli.options import AsJson, Device, Opening, Quiet, opens, print_json


@opens()
def inspect(opening: Opening, device: Device = "cpu", as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Say what is in a checkpoint."""
    from probe.checkpoints import describe, evidence
    from probe.models.hooks import sites

    gan = opening.load(device, quiet)
    found = describe(gan)
    if as_json:
        print_json(found)
    if as_json or quiet:
        return
    for key, value in found.items():
        if key != "consistency":  # which is told below
            text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
            print(f"{key:14} {text if text is not None else 'none'}")
    for role in ("generator", "discriminator"):
        known = sites(gan, role) if found[role] else []
        if known:
            listing = "; ".join(f"{s} rank {s.rank} or {s.rank - len(known) - 1}" for s in known)
            print(f"{'layers' if role == 'generator' else 'layers of D':14} {listing}")
    print("\n".join(evidence(gan)))
