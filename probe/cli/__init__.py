"""The command: one subcommand a question, built from its call, and the few that are no questions.

Nothing heavy is imported before a command runs, and a command is built when it is asked for, so `probe --help` answers
at once.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated, Any

import typer
import typer.core

from probe import __version__
from probe.base.errors import ProbeError
from probe.base.plugins import GROUPS, QUESTIONS, function, load_plugins
from probe.cli import build
from probe.cli.table import WRITTEN

_UsageError: type[Any] = typer.BadParameter.__mro__[
    2
]  # click's ClickException, wherever this version of typer keeps it


class Commands(typer.core.TyperGroup):
    """All commands by group, each built when it is asked for; spellings of 0.1 are taken and the new ones said."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for rows in table().values() for name in rows]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name == "forget-windows":
            return build.of_question(QUESTIONS["forget"], cmd_name, {"concept": "window"})
        if cmd_name in QUESTIONS:
            return build.of_question(QUESTIONS[cmd_name])
        row = WRITTEN.get(cmd_name)
        return (
            None
            if row is None
            else build.command(cmd_name, function(row.call), row.asks, row.examples, row.page, **row.how)
        )

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, found, rest = super().resolve_command(ctx, args)
        return name, found, rest if name is None else respelled(name, rest)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for group, rows in table().items():
            with formatter.section(group):
                formatter.write_dl(list(rows.items()))


def table() -> dict[str, dict[str, str]]:
    """The commands by group, with what each asks."""
    rows: dict[str, dict[str, str]] = {title: {} for title in GROUPS.values()}
    for name, row in WRITTEN.items():
        rows[GROUPS[row.group]][name] = row.asks
    rows[GROUPS["generator"]]["forget-windows"] = "Make the generator forget windows (figure 6): `forget` of windows."
    for name, question in QUESTIONS.items():
        rows[GROUPS[question.group]][name] = question.asks
    return rows


def respelled(name: str, words: list[str]) -> list[str]:
    """The words of a command with old spellings replaced; each is said once on standard error."""
    question = QUESTIONS.get("forget" if name == "forget-windows" else name)
    old = build.old_spellings(function(question.call)) if question else WRITTEN[name].was
    out = []
    for word in words:
        flag, equals, value = word.partition("=")
        if flag in old and old[flag] != flag:
            print(f"probe {name}: {flag} is called {old[flag]} now", file=sys.stderr)
            word = old[flag] + equals + value
        out.append(word)
    return out


app = typer.Typer(
    name="probe",
    cls=Commands,
    add_completion=False,
    rich_markup_mode=None,
    help="Look inside a trained DCGAN and operate on it: one command a question, each ending in a figure and a result.",
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version or context.invoked_subcommand is None:
        print(f"probe {__version__}" if version else context.get_help())
        raise typer.Exit


def main() -> None:
    """Run the command: exit 0, 2 for a user's mistake or bad input, 130 on Ctrl-C; never a traceback for those."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # where its cache is, is nobody's business
    try:
        load_plugins()
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except ProbeError as error:
        code = _fail(str(error))
    except _UsageError as error:
        code = _fail(error.format_message())
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        code = _fail(f"{error.filename or 'input or output'}: {error.strerror or error}")
    except RuntimeError as error:
        if "memory" not in str(error) and "alloc" not in str(error):
            raise
        code = _fail("out of memory; use fewer samples, a smaller --batch or --width, or --device cpu")
    except MemoryError:
        code = _fail("out of memory; use fewer samples or a smaller model")
    sys.exit(code or 0)


def _fail(message: str) -> int:
    print("probe: " + " ".join(message.split()), file=sys.stderr)
    return 2
