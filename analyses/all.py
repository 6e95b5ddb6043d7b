"""All recipes that need nothing but the package, one after the other (about 40 minutes on 2 cores)."""

from __future__ import annotations

from analyses import (
    evaluate_rooms,
    fig2_samples_early,
    fig3_samples,
    fig4_walk,
    fig5_guided_backprop,
    fig6_forget_windows,
    fig7_arithmetic,
    fig8_turn,
)

RECIPES = (
    fig3_samples, fig4_walk, fig5_guided_backprop, fig6_forget_windows, fig7_arithmetic, fig8_turn,
    evaluate_rooms, fig2_samples_early,
)  # fmt: skip


def main() -> None:
    for recipe in RECIPES:
        print(recipe.__name__)
        recipe.main()


if __name__ == "__main__":
    main()
