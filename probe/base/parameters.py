"""A parameter, declared once: type, range and words in the signature of a call are the Python API, the command and the docs.

A question's call annotates each parameter as `Annotated[int, Param("Random latents in the chain.", least=2)] = 9`.
`question` checks every call against that, and the command line is built from it. Messages name a parameter in
backticks, alone, as in: `limit`; the command turns that into the flag.
"""

import builtins
import functools
import inspect
import math
import operator
import os
import re
import types
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from probe.base import reads
from probe.base.errors import ProbeError

File = str | os.PathLike[str]
_F = TypeVar("_F", bound=Callable[..., Any])
_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}


@dataclass(frozen=True, kw_only=True)
class _Facts:
    least: float | None = None
    most: float | None = None
    argument: bool = False
    metavar: str = ""
    short: str = ""
    repeat: bool = False
    was: tuple[str, ...] = ()


@dataclass(frozen=True)
class Param(_Facts):
    """What a parameter is, beside its type: `help` in a sentence, and from `least` to `most` the range of its numbers.

    `argument` makes it an argument of the command, not an option; `short` is a one-letter option, `repeat` says that the
    option may be given several times; `metavar` is how people write a value; `was` are names that the parameter had
    before, which keep working and say the new one.
    """

    help: str


@dataclass(frozen=True)
class Declared:
    """A parameter of a call as it stands in its signature."""

    name: str
    types: tuple[Any, ...]
    param: Param
    default: Any
    several: bool = False  # *args

    @property
    def required(self) -> bool:
        """Whether a call must give it."""
        return self.default is inspect.Parameter.empty and not self.several

    @property
    def flag(self) -> str:
        """The option's name on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def among(self) -> tuple[str, ...]:
        """The names to choose from, none where any value will do."""
        return tuple(value for kind in self.types if get_origin(kind) is Literal for value in get_args(kind))

    @property
    def help(self) -> str:
        """What it is, with its range, in a sentence."""
        return f"{self.param.help[:-1]} ({self.range})." if self.range else self.param.help

    @property
    def file(self) -> bool:
        """Whether it takes a path."""
        return any(get_origin(kind) is os.PathLike for kind in self.types)

    @property
    def range(self) -> str:
        """The range of its numbers in words, '' where there is none."""
        p = self.param
        if p.least is not None and p.most is not None:
            return f"{_plain(p.least)} to {_plain(p.most)}"
        if p.least is not None:
            return f"at least {_plain(p.least)}"
        return "" if p.most is None else f"at most {_plain(p.most)}"

    def checked(self, value: Any) -> Any:
        """The value, numbers of NumPy as Python's; raises ProbeError, naming the parameter, for one it cannot take."""
        if value is None and (type(None) in self.types or self.default is None):
            return None
        name = f"`{self.name}`"
        if self.among:
            if value not in self.among:
                raise ProbeError(f"{name} {value}: expected {_either(self.among)}")
            return value
        plain = [kind for kind in self.types if kind in _WORDS]
        others = [kind for kind in self.types if kind not in _WORDS and kind is not type(None)]
        if not others:
            value = _number(value, plain)
            if not any(_is(value, kind) for kind in plain):
                expected = " or ".join(_WORDS[kind] for kind in plain)
                raise ProbeError(f"{name} {_short(value)}: is {_kind(value)}; expected {expected}")
        elif pair := next((kind for kind in others if get_origin(kind) is tuple), None):
            if not isinstance(value, tuple | list) or len(value) != len(get_args(pair)):
                raise ProbeError(f"{name} {_short(value)}: expected {len(get_args(pair))} numbers")
        elif self.file and not isinstance(value, str | os.PathLike):
            raise ProbeError(f"{name} {_short(value)}: is {_kind(value)}; expected a path")
        if isinstance(value, int | float) and not isinstance(value, bool):
            self._within(value)
        return value

    def _within(self, value: float) -> None:
        p = self.param
        low, high = -math.inf if p.least is None else p.least, math.inf if p.most is None else p.most
        if not (low <= value <= high and math.isfinite(value)):
            raise ProbeError(f"`{self.name}` {value}: expected {self.range or 'a finite number'}")


def _either(words: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _plain(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


def _number(value: Any, plain: Sequence[type]) -> Any:
    """A number of NumPy as Python has it."""
    if hasattr(value, "dtype") and getattr(value, "shape", None) == () and plain:
        return value.item()
    return value


def _is(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "…"


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"


class _Names(dict[str, Any]):
    """The names that annotations written as texts may use; those imported for type checkers alone stand for anything."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, Any)


def declared(call: Callable[..., Any]) -> dict[str, Declared]:
    """The parameters of a call that are declared with a Param, by name, in the order of its signature."""
    found = {}
    names = _Names(inspect.unwrap(call).__globals__)
    for name, p in inspect.signature(inspect.unwrap(call)).parameters.items():
        annotation = eval(p.annotation, {}, names) if isinstance(p.annotation, str) else p.annotation
        if get_origin(annotation) is not Annotated:
            continue
        kind, *more = get_args(annotation)
        param = next((m for m in more if isinstance(m, Param)), None)
        if param is not None:
            union = get_origin(kind) in (typing.Union, types.UnionType)
            several = p.kind is inspect.Parameter.VAR_POSITIONAL
            found[name] = Declared(name, get_args(kind) if union else (kind,), param, p.default, several)
    return found


def require_gan(value: Any, name: str = "gan") -> None:
    """Raise ProbeError, naming the parameter, for what is no GAN."""
    if not (hasattr(value, "generator") and hasattr(value, "latents")):
        raise ProbeError(f"`{name}` {_short(value)}: is {_kind(value)}; expected a GAN, as probe.load(path) returns")


def question(call: _F) -> _F:
    """Make a call check what it is given against its declaration, before any work.

    Raises ProbeError, from the call, for what is no GAN, a value of another type or out of its range; names that a
    parameter had before are taken with a DeprecationWarning that says the new one.
    """
    known = declared(call)
    signature = inspect.signature(call)
    old = {was: name for name, d in known.items() for was in d.param.was if was.isidentifier()}

    @functools.wraps(call)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for was in old.keys() & kwargs.keys():
            text = f"{call.__name__}: {was} is called {old[was]} now"
            warnings.warn(text, DeprecationWarning, stacklevel=2)
            kwargs[old[was]] = kwargs.pop(was)
        given = signature.bind(*args, **kwargs)
        for name, value in given.arguments.items():
            if name in known and not known[name].several:
                given.arguments[name] = known[name].checked(value)
            elif name in known:
                given.arguments[name] = tuple(map(known[name].checked, value))
            elif name == "gan":
                several = isinstance(value, Sequence) and "Sequence" in str(signature.parameters[name].annotation)
                for one in value if several else (value,):
                    require_gan(one)
        with reads.noting() as noted:
            try:
                result = call(*given.args, **given.kwargs)
            except ProbeError as error:
                raise reads.explained(error, noted) from error.__cause__
        reads.keep(result, noted)
        return result

    checked.__signature__ = _plain_signature(signature, known)  # type: ignore[attr-defined]
    checked.__doc__ = _documented(call.__doc__ or "", known)
    return checked  # type: ignore[return-value]


def _plain_signature(signature: inspect.Signature, known: Mapping[str, Declared]) -> inspect.Signature:
    """A signature as people read it: types without what is declared of them."""
    parameters = [
        p.replace(annotation=functools.reduce(operator.or_, known[name].types)) if name in known else p
        for name, p in signature.parameters.items()
    ]
    return signature.replace(parameters=parameters)


def _documented(doc: str, known: Mapping[str, Declared]) -> str:
    """A docstring with the declared parameters in it, before what the call raises."""
    rows = [f"        {name}: {d.help}" for name, d in known.items()]
    head, raises, tail = doc.partition("    Raises:")
    return f"{head}    Args:\n" + "\n".join(rows) + f"\n\n{raises}{tail}" if rows else doc


def check(call: Callable[..., Any], values: Mapping[str, Any]) -> None:
    """Check values by name against the declaration of a call, before what it works on is opened."""
    for name, d in declared(call).items():
        if name in values:
            for value in values[name] if d.several else (values[name],):
                d.checked(value)


def words(call: Callable[..., Any], name: str, *args: Any, **kwargs: Any) -> list[str]:
    """The words of the command `name` that asks what call(gan, *args, **kwargs) asks, without what opens the checkpoint.

    Options that have their usual values are left out.
    """
    known = declared(call)
    bound = inspect.signature(call).bind(None, *args, **kwargs).arguments
    out, options = [name], []
    for key, value in bound.items():
        d = known.get(key)
        if d is None or value is None or (not d.several and value == d.default):
            continue
        texts = [written(v) for v in value] if d.several else [written(value)]
        if d.param.argument:
            out += texts
        elif value is True:
            options.append(d.flag)
        else:
            options += [d.flag, *texts]
    return out + options


def written(value: Any) -> str:
    """A value as people write it on a command line: numbers of a list with commas between."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(written, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def as_flags(text: str, names: Mapping[str, str]) -> str:
    """A message for the command line: parameters in backticks, by name, become flags."""
    return re.sub(r"`([a-z_]+)`", lambda m: names.get(m[1], m[0]), text)


# What people write for a set of numbers ------------------------------------------------------------------------------

_MOST = 100_000


def numbers(text: str | Sequence[int], name: str) -> tuple[int, ...]:
    """The numbers of a list such as `3,7,12` or `0-11,40`, or of a sequence, each once, in the order given.

    Raises ProbeError, naming the parameter, for anything else and for numbers of 100,000 and more.
    """
    if not isinstance(text, str):
        try:
            text = ",".join(str(int(value)) for value in text)
        except (TypeError, ValueError):
            raise ProbeError(f"`{name}` {_short(text)}: expected whole numbers, or a text such as 3,7,12") from None
    out: dict[int, None] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part)
        if not match:
            raise ProbeError(
                f"`{name}` {text!r}: expected numbers and ranges with commas between, such as 3,7,12 or 0-11"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last >= _MOST:
            reason = (
                f"{part.strip()} runs backwards" if last < first else f"{last} is too large (the most is {_MOST - 1})"
            )
            raise ProbeError(f"`{name}` {text!r}: {reason}")
        out |= dict.fromkeys(range(first, last + 1))
    return tuple(out)


def counts(text: str | int | Sequence[int], name: str) -> tuple[int, ...]:
    """One count, or several such as `1,2,3,5,10`, rising, each once; raises ProbeError, naming the parameter."""
    parts = text.split(",") if isinstance(text, str) else [text] if isinstance(text, int) else text
    try:
        found = tuple(sorted({int(part) for part in parts}))
    except (TypeError, ValueError):
        found = ()
    if not found or found[0] < 1:
        raise ProbeError(f"`{name}` {written(text)}: expected counts of at least 1, such as 3 or 1,2,3,5,10")
    return found


def reals(text: str | Sequence[float], name: str) -> tuple[float, ...]:
    """Numbers with commas between, or a sequence of them; raises ProbeError, naming the parameter."""
    try:
        return tuple(float(part) for part in (text.split(",") if isinstance(text, str) else text))
    except (TypeError, ValueError):
        raise ProbeError(f"`{name}` {text}: expected numbers with commas between them, such as 0.1,1,10") from None


def names(text: str | Sequence[str], name: str) -> tuple[str, ...]:
    """Names with commas between, or a sequence of such texts, each once; `none` is an empty list."""
    texts = [text] if isinstance(text, str) else list(text)
    if not all(isinstance(part, str) for part in texts):
        raise ProbeError(f"`{name}` {_short(text)}: expected names, with commas between them in a text")
    parts = [part.strip() for whole in texts for part in whole.split(",")]
    return tuple(dict.fromkeys(part for part in parts if part not in ("", "none")))


# Parameters that several questions have ------------------------------------------------------------------------------

Seed = Annotated[int, Param("Seed of everything random.", least=0, most=2**31 - 1, metavar="N")]
LabelSeed = Annotated[
    int | None,
    Param("Seed of the labelled samples, where the file does not say.", least=0, most=2**31 - 1, metavar="N"),
]
_LAYER = "A layer by name (layer2), by rank from the latent (2) or from the pixels (-2), or by grid (8x8)"
Layer = Annotated[str | int | None, Param(f"{_LAYER}; without it, the question's own choice, which the result names.")]
Data = "rooms[:N], rooms@2[:N], a folder, faces:FOLDER, parquet:, idx:, npz:, mat:, lmdb: or hf:"
Limit = Annotated[int | None, Param("Use only the first images of the source.", least=1, metavar="N")]
Exclude = Annotated[File | None, Param("The list that `probe train --exclude` took, where it did.")]
Labels = Annotated[
    File | None, Param("COCO JSON of boxes on samples of this generator; not needed on rooms.", metavar="FILE")
]
Labelled = Annotated[
    int,
    Param("Samples that the segmenter labels, without a labels file.", least=16, most=100_000, metavar="N", short="n"),
]
OwnSegmenter = Annotated[Any, Param("Your own segmenter, as pkg.module:factory.", metavar="NAME")]
Save = Annotated[
    File | None,
    Param("Write the operated generator there: .safetensors, or .pth for pytorch/examples where that can hold it."),
]
