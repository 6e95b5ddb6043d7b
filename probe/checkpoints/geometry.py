"""Strides, paddings and enlargements, which no weight shows: what is usual, and what leads to a usual image.

    Geometry                 how one layer moves over its maps
    Way                      a geometry for each layer, and the image that they lead to
    generator_routes(...)    from the latent to an image
    discriminator_routes     from an image of a known size to one number

Every layer has a few usual forms, each with a price for how unusual it is; image sizes have prices, too. The cheapest way is
the reading that is tried first; a network's statistics (identify.py) may prefer another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from probe.checkpoints.chains import SIZES, Link, Network
from probe.models.dcgan import Kind, kernel_geometry


@dataclass(frozen=True)
class Geometry:
    """How a layer moves over its maps; `price` says how unusual that is."""

    kind: Kind
    stride: int = 1
    padding: int = 0
    output_padding: int = 0
    upsample: int = 1
    price: float = 0.0

    def side(self, before: int, kernel: int, grid: int = 1) -> int:
        """The side of the maps that it gives; 0 where it gives none."""
        if self.kind == "linear":
            return grid
        if self.kind == "conv":
            wide = before * self.upsample + 2 * self.padding - kernel
            return wide // self.stride + 1 if wide >= 0 else 0
        return max((before - 1) * self.stride - 2 * self.padding + kernel + self.output_padding, 0)


@dataclass(frozen=True)
class Way:
    """A geometry for each layer, the side it leads to, and that to which images are then interpolated, 0 for none."""

    steps: tuple[Geometry, ...]
    side: int
    resize: int
    price: float

    @property
    def size(self) -> int:
        """The image's side."""
        return self.resize or self.side


# Generators of 28 px whose strides the usual rule would get wrong, by their kernels: stride, padding, output padding.
GENERATORS_28: dict[tuple[int, ...], list[tuple[int, int, int]]] = {
    (3, 4, 3, 4): [(1, 0, 0), (1, 0, 0), (2, 0, 0), (2, 0, 0)],
    (4, 3, 4, 4): [(1, 0, 0), (2, 1, 0), (2, 1, 0), (2, 1, 0)],
    (4, 4, 4, 4, 1): [(1, 0, 0), (2, 1, 0), (2, 1, 0), (2, 1, 0), (1, 2, 0)],
}
_SIZES = {
    16: 1.0,
    28: 1.0,
    32: 0.0,
    48: 1.0,
    64: 0.0,
    96: 1.0,
    112: 1.2,
    128: 0.2,
    224: 1.5,
    256: 0.3,
    512: 0.6,
    1024: 0.8,
}
_GREY = {28: 0.0, 32: 0.2, 64: 0.4}  # images of one channel are digits and the like


@dataclass
class Routes:
    """All ways through a network: the forms of each layer, and what the side at the end costs."""

    links: Sequence[Link]
    start: int
    forms: Sequence[Sequence[Geometry]]
    reach: Callable[[int, int, Geometry], int]  # the side behind a layer, 0 where the form cannot be
    ends: Callable[[int], Iterable[tuple[float, int]]]  # prices of a last side, with what it is interpolated to
    first: Way | None = None  # a known network's, cheaper than any other
    _known: dict[tuple[int, int], Way | None] = field(default_factory=dict)

    def rest(self, i: int, side: int) -> Way | None:
        """The cheapest way from layer i on, whose maps have a side; None where none leads to an end."""
        if side < 1:
            return None
        if (i, side) not in self._known:
            found: list[Way] = []
            if i == len(self.links):
                found = [Way((), side, to, price) for price, to in self.ends(side)]
            else:
                for form in self.forms[i]:
                    reached = self.reach(i, side, form)
                    after = self.rest(i + 1, reached) if 1 <= reached <= SIZES[-1] else None
                    if after:
                        found.append(Way((form, *after.steps), after.side, after.resize, form.price + after.price))
            self._known[i, side] = min(found, key=lambda way: way.price, default=None)
        return self._known[i, side]

    def best(self) -> Way | None:
        """The likeliest way, None where no usual strides lead to an end."""
        return self.first or self.rest(0, self.start)


def generator_routes(network: Network, size: int | None = None) -> Routes:
    """Ways from the latent to an image, of a size where that is known."""
    links = network.links
    odd = {link.kernel % 2 for link in links[1:] if not link.flat and link.transposed and link.kernel > 1}
    convolves = any(link.transposed is False and not link.flat for link in links)
    forms = []
    for i, link in enumerate(links):
        some = _generator_forms(link, i == 0, i == len(links) - 1, len(odd) > 1, bool(odd), convolves)
        forms.append([_with_gap(form, links[i - 1]) for form in some] if i and not link.flat else some)
    prices = _SIZES | (_GREY if network.channels == 1 else {})

    def ends(side: int) -> Iterable[tuple[float, int]]:
        if side in SIZES and size in (None, side):
            yield prices.get(side, 3.0), 0
        if side not in prices and side >= 14:
            for to in [28, 32, 64] if network.channels == 1 else [32, 64, 128]:
                if side / 3 < to < 2 * side and size in (None, to):
                    yield prices[to] + 2.5, to

    def reach(i: int, side: int, form: Geometry) -> int:
        return form.side(side, links[i].kernel, links[i].grid)

    known = GENERATORS_28.get(tuple(link.kernel for link in links))
    first = None
    if known and network.channels == 1 and all(link.transposed for link in links) and size in (None, 28):
        first = Way(tuple(Geometry("deconv", *numbers) for numbers in known), 28, 0, 0.0)
    return Routes(links, 1, forms, reach, ends, first)


def unreachable(network: Network) -> str:
    """Why no usual strides lead to an image."""
    links, side = network.links, 1
    odd = {link.kernel % 2 for link in links[1:] if not link.flat and link.transposed}
    for i, link in enumerate(links):
        side = _generator_forms(link, i == 0, i == len(links) - 1, False, bool(odd), False)[0].side(
            side, link.kernel, link.grid
        )
    kernels = [link.kernel for link in links if not link.flat]
    return f"kernels {', '.join(map(str, kernels[:12]))} lead to an image of {side} px"


def _generator_forms(
    link: Link, first: bool, last: bool, mixed: bool, transposed: bool, convolves: bool
) -> list[Geometry]:
    """The usual forms of a generator's layer.

    `transposed` and `convolves` say whether there are transposed and plain convolutions for certain, `mixed` that the transposed
    ones have even and odd kernels.
    """
    k = link.kernel
    if link.flat:
        return [Geometry("linear")]
    if first:
        return [Geometry("deconv", 1, 0, 0), Geometry("deconv", *_doubling(k), price=2.0)]
    forms: list[Geometry] = []
    if link.transposed is not False:
        extra = (1.0 if convolves else 0.5) if link.transposed is None and k % 2 else 0.0
        if k == 1:
            forms += [Geometry("deconv", 1, 0, 0, price=extra), Geometry("deconv", 1, 2, 0, price=extra + 1.5)]
        elif k % 2 == 0:
            forms += [Geometry("deconv", *_doubling(k), price=extra)]
            forms += [
                Geometry("deconv", 2, 0, 0, price=extra + 3.0 * (k > 2)),
                Geometry("deconv", 1, 0, 0, price=3.0 + extra),
            ]
            forms += [Geometry("deconv", 1, k // 2 - 1, 0, price=extra + 2.0)] if k > 2 else []
            forms += [Geometry("deconv", 4, 0, 0, price=extra + 2.0)] if k == 4 else []
        else:
            forms += [Geometry("deconv", *_doubling(k), price=extra + 1.5 * mixed)]
            tripling = last and mixed and k == 5  # to 48 or 96 px
            forms += [Geometry("deconv", 3, 1, 0, price=extra + 0.2)] if tripling else []
            forms += [Geometry("deconv", 1, k // 2, 0, price=extra + (1.5 if tripling else 0.5 if last else 1.0))]
            forms += [
                Geometry("deconv", 2, k // 2, 0, price=extra + 1.5),
                Geometry("deconv", 2, 0, 0, price=extra + 2.0),
            ]
            forms += [Geometry("deconv", 1, 0, 0, price=extra + 2.5), Geometry("deconv", 2, 0, 1, price=extra + 3.0)]
    if link.transposed is not True:
        extra = 5.0 * (k % 2 == 0)
        larger = (0.6 if last else 0.2) + 1.0 * transposed
        alike = 0.0 if last or transposed else 0.5
        forms += [
            Geometry("conv", 1, k // 2, 0, 2, price=extra + larger),
            Geometry("conv", 1, k // 2, price=extra + alike),
        ]
        forms += [Geometry("conv", 1, 0, price=extra + 2.5)] if k > 1 else []
    return list(dict.fromkeys(forms))


def _doubling(kernel: int) -> tuple[int, int, int]:
    return (2, *kernel_geometry(kernel))


def _with_gap(form: Geometry, before: Link) -> Geometry:
    """The form at the price that the number of modules ahead of it asks for: an enlargement is one of them."""
    places = before.after
    if places is None or form.kind != "conv":
        return form
    places -= int(folds_after(before))
    needed = int(form.upsample > 1) + int(before.norm != "none")  # with an activation
    price = form.price + 0.3 * abs(max(places, 0) - needed)
    price += 10.0 * (form.upsample > 1 and places < 1)
    return Geometry(form.kind, form.stride, form.padding, form.output_padding, form.upsample, price)


def folds_after(link: Link) -> bool:
    """Whether a generator's linear layer is folded into maps between its last named module and the next layer."""
    return link.flat and link.grid > 1 and link.norm in ("none", "unit")


def discriminator_routes(network: Network, size: int) -> Routes:
    """Ways from an image of `size` to one number."""
    links = network.links
    halving = [Geometry("conv", 2, (link.kernel - 1) // 2) for link in links]
    final = [*halving[:-1], Geometry("conv", 1, 0)]
    pairs = [Geometry("conv", 1, 1) if link.kernel == 3 else form for link, form in zip(links, final, strict=True)]
    unpadded = [Geometry("conv", 2, 0) for _ in links]
    maps = [network.channels, *(link.outputs for link in links)]

    def reach(i: int, side: int, form: Geometry) -> int:
        link = links[i]
        if not link.flat:
            return form.side(side, link.kernel)
        pooled = network.conventions.pooled and link.inputs == maps[i]
        return int(link.inputs == maps[i] * side**2 or (pooled and side > 0))

    first = None
    for rule in (pairs, final, halving, unpadded):
        steps = [Geometry("linear") if link.flat else form for link, form in zip(links, rule, strict=True)]
        side = size
        for i, step in enumerate(steps):
            side = reach(i, side, step) if side > 0 else 0
        if side == 1:
            first = first or Way(tuple(steps), 1, 0, 0.0)
    forms = [[Geometry("linear")] if k.flat else _discriminator_forms(k, k is links[-1]) for k in links]
    return Routes(links, size, forms, reach, lambda side: [(0.0, 0)] if side == 1 else [], first)


def _discriminator_forms(link: Link, last: bool) -> list[Geometry]:
    k = link.kernel
    if k % 2 == 0:
        forms = [
            Geometry("conv", 2, k // 2 - 1),
            Geometry("conv", 2, 0, price=1.0),
            Geometry("conv", 1, 0, price=0.0 if last else 1.5),
        ]
        return forms + ([Geometry("conv", 1, k // 2 - 1, price=2.0)] if k > 2 else [])
    if k == 1:
        return [Geometry("conv", 1, 0)]
    forms = [Geometry("conv", 2, k // 2), Geometry("conv", 1, k // 2, price=0.5), Geometry("conv", 2, 0, price=1.0)]
    forms += [Geometry("conv", 3, 1, price=1.0)] if k == 5 else []
    return [*forms, Geometry("conv", 1, 0, price=0.0 if last else 1.5)]
