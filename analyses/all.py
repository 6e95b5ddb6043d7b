"""All recipes that need nothing but the package, one after the other, and their list (about 80 minutes on 2 cores)."""

from __future__ import annotations

import sys

from analyses import (
    ablate_rooms,
    dissect_rooms,
    evaluate_rooms,
    fig2_samples_early,
    fig3_samples,
    fig4_walk,
    fig5_guided_backprop,
    fig6_forget_windows,
    fig7_arithmetic,
    fig8_turn,
    gallery,
    insert_rooms,
    rivals,
    spectrum_rooms,
)

RECIPES = (
    fig3_samples, fig4_walk, fig5_guided_backprop, fig6_forget_windows, fig7_arithmetic, fig8_turn, fig2_samples_early,
    evaluate_rooms, dissect_rooms, ablate_rooms, insert_rooms, rivals, spectrum_rooms,
)  # fmt: skip


def main() -> None:
    options = sys.argv[1:]
    for recipe in RECIPES:
        name = recipe.__name__.split(".")[-1]
        print(name)
        sys.argv = [f"{name}.py", *options]  # what a recipe's results say repeats them
        recipe.main()
    gallery.main()


if __name__ == "__main__":
    main()
