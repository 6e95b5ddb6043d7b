"""Commands from the declarations of the questions' calls: options, ranges, defaults and help stand in their signatures alone."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_origin

import typer
import typer.core

from probe.base.errors import DrawingError, ProbeError
from probe.base.parameters import Declared, as_flags, check, declared, written
from probe.base.plugins import Question, function
from probe.cli import options


class ProbeCommand(typer.core.TyperCommand):
    """A command whose messages name flags, and whose help ends with examples and the page that explains it."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ProbeError as error:
            flags = {p.name: max(p.opts, key=len) if p.opts[0].startswith("-") else p.name.upper() for p in self.params}
            flags["path"] = flags.get("ckpt", "--ckpt")
            flags["label"] = flags.get("label", "--class")
            raise ProbeError(as_flags(str(error), flags)) from error

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        *examples, page = (self.epilog or "").split("\n")
        if examples:
            with formatter.section("Examples"):
                for example in examples:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")
        if page:
            with formatter.section("Explained in"):
                formatter.write(f"{'':{formatter.current_indent}}{page}\n")


def command(
    name: str, call: Callable[..., None], asks: str, examples: Sequence[str], page: str, **settings: Any
) -> Any:
    """A command of typer from a function whose signature is annotated with its options."""
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    epilog = "\n".join([*examples, page])
    single.command(name, cls=ProbeCommand, help=asks, epilog=epilog, **settings)(call)
    return typer.main.get_command(single)


def old_spellings(call: Callable[..., Any]) -> dict[str, str]:
    """Options that a command had before -> today's."""
    return {f"--{was.replace('_', '-')}": d.flag for d in declared(call).values() for was in d.param.was}


def of_question(question: Question, name: str | None = None, fixed: Mapping[str, Any] | None = None) -> Any:
    """The command that asks a question, under its own name or another one with some parameters `fixed`."""
    call = function(question.call)
    name, fixed = name or question.name, fixed or {}
    own = [d for d in declared(call).values() if d.name not in fixed]
    opens = "gan" in inspect.signature(call).parameters

    def run(**given: Any) -> None:
        _ask(question, call, {**fixed, **{d.name: _value(d, given.pop(d.name)) for d in own}}, opens, **given)

    parameters = [_parameter(d) for d in sorted(own, key=lambda d: not d.param.argument)]
    parameters += options.opening(but=declared(call)) if opens else []
    default = f"out/{name}"
    common: dict[str, tuple[Any, Any]] = {
        "out": (options.out_of(default), Path(default)),
        "device": (options.Device, "auto"),
    }
    common |= {"formats": (options.Formats, "png"), "as_json": (options.AsJson, False), "quiet": (options.Quiet, False)}
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters += [inspect.Parameter(key, keyword, annotation=a, default=d) for key, (a, d) in common.items()]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return command(name, run, question.asks, question.examples, question.page)


def _parameter(d: Declared) -> inspect.Parameter:
    """A declared parameter as typer takes it."""
    p = d.param
    kind: Any = _kind(d)
    metavar = "|".join(d.among) if d.among else p.metavar or None
    if p.argument:
        annotation: Any = Annotated[kind, typer.Argument(metavar=metavar, help=d.help)]
    else:
        names = [*([f"-{p.short}"] if p.short else []), d.flag]
        annotation = Annotated[kind, typer.Option(*names, metavar=None if kind is bool else metavar, help=d.help)]
    default: Any = d.default
    if d.required or d.several:
        default = inspect.Parameter.empty
    elif p.repeat:
        default = [written(value) for value in d.default]
    elif kind is str or kind == str | None:
        default = None if d.default is None else written(d.default)
    return inspect.Parameter(d.name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _kind(d: Declared) -> Any:
    """The type that typer reads: what people write for anything more is a text, which the call reads."""
    if d.several or d.param.repeat:
        return list[str]
    pair = next((kind for kind in d.types if get_origin(kind) is tuple), None)
    plain = pair or next((k for k in (bool, float, int) if k in d.types and str not in d.types), None)
    kind = plain or (Path if d.file else str)
    return kind | None if NoneType in d.types or d.default is None else kind


def _value(d: Declared, value: Any) -> Any:
    """A value that typer read, as the call takes it."""
    if d.several or d.param.repeat:
        return tuple(value)
    return value


def _ask(
    question: Question,
    call: Callable[..., Any],
    values: dict[str, Any],
    opens: bool,
    *,
    out: Path,
    device: str,
    formats: str,
    as_json: bool,
    quiet: bool,
    **checkpoint: Any,
) -> None:
    """Ask, write the result and say what came out."""
    from probe.base.progress import progress
    from probe.models.device import pick_device
    from probe.results import drawing, provenance
    from probe.results.output import check_output

    wanted = drawing.formats(formats)
    check_output(out)
    check(call, values)
    given: list[Any] = []
    signature = inspect.signature(call).parameters
    if opens:
        opening = options.Opening(**checkpoint)
        rows = opening.label == "all" and "Sequence" in str(inspect.signature(inspect.unwrap(call)).parameters["gan"])
        given.append(opening.every_class(device, quiet) if rows else opening.load(device, quiet))
    elif "device" in signature:
        values["device"] = pick_device(device)
    several = next((d.name for d in declared(call).values() if d.several), None)
    given += values.pop(several) if several else ()
    with progress(quiet or as_json) as tell:
        result = call(*given, **values, **({"report": tell} if "report" in signature else {}))
    result.provenance["command"] = provenance.command_line(sys.argv[1:])
    failed = None
    try:
        place = result.save(out, wanted)
    except DrawingError as error:  # the result is saved, and what it says is said first
        place, failed = out, error
    flags = {d.name: d.flag for d in declared(call).values()} | {"prior": "--prior"}
    for remark in [] if quiet else result.remarks:
        print(as_flags(remark, flags), file=sys.stderr)
    if as_json:
        options.print_json(result.document()["metrics"])
        if failed:
            raise failed
        return
    beside = [f"{_kind_of(file)}: {out / file}" for file in result.files if (out / file).exists()]
    drawn = [f"figure: {place}"] if place != out else [f"result: {out}"]
    saved = [f"checkpoint: {values['save']}"] if values.get("save") else []
    options.say(quiet, result.summary().text, *saved, *beside, *drawn)
    if failed:
        raise failed


def _kind_of(name: str) -> str:
    """What a file beside a result is, in a word."""
    kinds = {".csv": "table", ".tex": "table", ".gif": "movie", ".pdf": "atlas", ".json": "list"}
    return kinds.get(Path(name).suffix, "numbered images")
