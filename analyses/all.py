"""All recipes that need nothing but the package, one after the other (about 15 minutes on 2 cores)."""

from __future__ import annotations

from analyses import fig2_samples_early, fig3_samples, fig4_walk, fig6_forget_windows


def main() -> None:
    for recipe in (fig3_samples, fig4_walk, fig6_forget_windows, fig2_samples_early):
        print(recipe.__name__)
        recipe.main()


if __name__ == "__main__":
    main()
