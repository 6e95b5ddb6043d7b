"""Named streams: the numbers of the committed results, and none of a run meets another."""

from __future__ import annotations

import itertools

from probe.base import seeds

STREAMS = {name: row for name, row in vars(seeds).items() if isinstance(row, seeds.Stream)}
BRANCHES = {name: row for name, row in vars(seeds).items() if isinstance(row, seeds.Branch)}


def test_streams_are_the_sums_that_the_committed_results_were_made_with() -> None:
    assert {name: row.of(3, 5) for name, row in STREAMS.items()} == {
        "TUNING": 3 * 1000 + 3_000_017 + 5,
        "FORGET_HELDOUT": 3 * 1000 + 29_000_003 + 5,
        "HELDOUT": 3 * 1000 + 7_000_003 + 5,
        "REFINEMENT": 3 * 1000 + 41_000_003 + 5,
        "UNLEARNING": 3 + 5_000_011 + 5,
        "LABEL_DRAWS": 3 + 5,
        "SEGMENTERS": 3 + 5,
        "UNSEEN_ROOMS": 3 + 9_000_001 + 5,
        "RANDOM_DIRECTIONS": 3 + 5,
        "COMPARED": 3 + 1_000_003 + 5,
        "PRINCIPAL": 3 + 1_000_005 + 5,
        "TURNED": 3 + 1_000_007 + 5,
        "TURNED_DRAWS": 3 + 2 * 1_000_007 + 5,
        "PATH_LENGTH": 3 + 1 + 5,
        "RECOVERY": 3 + 7 + 5,
        "RANDOM_LAYERS": 3 * 1000 + 5,
        "RANDOM_WEIGHTS": 3 + 1 + 5,
        "TRAIN_DISCRIMINATOR": 3 + 1 + 5,
        "TRAIN_PICTURES": 3 + 1_000_003 + 5,
        "TRAIN_LATENTS": (3 << 32) + 1 + 5,
        "TRAIN_SHIFTS": (3 << 32) + (1 << 31) + 1 + 5,
        "TRAIN_NOISE": (3 << 32) + (1 << 31) + 5,
    }
    assert seeds.TUNING.of(0) == 3_000_017


def test_branches_end_in_their_number() -> None:
    numbers = {"DIAGNOSIS": 1, "TRAIN_ORDER": 1, "TRAIN_FLIPS": 2, "VALIDATION": 3, "FEW_LABELS": 4, "SHIFTS": 5}
    numbers |= {"PATCHES": 6, "SUPERVISED": 7}
    assert {name: row.of(9, 4, 8) for name, row in BRANCHES.items()} == {k: [9, 4, 8, n] for k, n in numbers.items()}
    assert seeds.VALIDATION.of(9) == [9, 3]


def test_streams_of_latents_that_meet_in_a_run_share_no_seed() -> None:
    together = (
        ("TUNING", "FORGET_HELDOUT", "REFINEMENT", "UNLEARNING"),
        ("TUNING", "HELDOUT"),
        ("PRINCIPAL", "TURNED", "TURNED_DRAWS"),
    )
    for names in together:
        kinds = [set(range(1000)), *({STREAMS[name].of(seed) for seed in range(1000)} for name in names)]
        for (a, one), (b, other) in itertools.combinations(zip(("samples", *names), kinds, strict=True), 2):
            shared = one & other
            assert not shared or {a, b} == {"PRINCIPAL", "TURNED"}, (a, b)
    assert len({STREAMS[name].of(0) for name in together[2]}) == 3  # their runs are of one seed


def test_steps_of_training_share_no_seed_with_noise_or_other_seeds() -> None:
    steps = range(0, 2**31 - 1, 2**27 + 1)
    drawn = [row.of(seed, k) for row in (seeds.TRAIN_LATENTS, seeds.TRAIN_NOISE) for seed in (0, 1, 2) for k in steps]
    assert len(set(drawn)) == len(drawn)
