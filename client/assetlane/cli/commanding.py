"""What both commands have in common: the order in which they list themselves, help without noise, plain errors.

Needs typer, which the extras `cli` and `server` bring.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from assetlane.cli.output import error_lines as error_lines  # for both commands
from assetlane.cli.values import read_plainly

ERROR = "Error: "  # what is printed before its sentence

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


_RANGE = re.compile(r"; [x\d.<=>]*x[\d.<=>]*(?=\])|\s*\[[x\d.<=>]*x[\d.<=>]*\]")  # `[x>=0]`: the error says it


class Command(TyperCommand):
    """A command whose help names arguments as people type them, without types and ranges."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Returns the options and arguments."""
        params = super().get_params(ctx)
        read_plainly(params)
        return params

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Returns what stands behind the command's name in the line of usage."""
        arguments = [param for param in self.get_params(ctx) if isinstance(param, TyperArgument)]
        return ["[OPTIONS]", *(_placed(argument) for argument in arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the arguments that have something to be said of them, then the options."""
        params = self.get_params(ctx)
        arguments = [
            (param.metavar or "", param.help)
            for param in params
            if isinstance(param, TyperArgument) and param.help and not param.hidden
        ]
        options = [
            (record[0], _RANGE.sub("", record[1]))
            for param in params
            if not isinstance(param, TyperArgument) and (record := param.get_help_record(ctx)) is not None
        ]
        for title, records in (("Arguments", arguments), ("Options", options)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def _placed(argument: TyperArgument) -> str:
    name = argument.metavar or str(argument.name).upper()
    return name if argument.required else f"[{name}]"


class Commands(TyperGroup):
    """Lists its commands in an order of our own, `order`, which ends with those that it does not name."""

    order: tuple[str, ...] = ()

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Reads the options before the command."""
        with _broken_between_words():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Reads the command's words, and runs it."""
        with _broken_between_words():
            return super().invoke(ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the options without ranges, then the commands."""
        records = [param.get_help_record(ctx) for param in self.get_params(ctx)]
        with formatter.section("Options"):
            formatter.write_dl([(name, _RANGE.sub("", text)) for name, text in filter(None, records)])
        self.format_commands(ctx, formatter)

    def list_commands(self, ctx: Any) -> list[str]:
        """Returns their names."""
        return sorted(super().list_commands(ctx), key=lambda name: (*self.order, name).index(name))

    def get_params(self, ctx: Any) -> list[Any]:
        """Returns the options; those about completion have a line of their own."""
        params = super().get_params(ctx)
        read_plainly(params)
        for param in params:
            if param.name in ("install_completion", "show_completion"):
                param.hidden = True  # type: ignore[attr-defined]
        return params


@contextmanager
def _broken_between_words() -> Iterator[None]:
    """Breaks the sentence about wrong usage between words, on a terminal."""
    try:
        yield
    except Exception as error:
        format_message = getattr(error, "format_message", None)  # of click's errors, and of those of typer's own click
        if format_message is not None:
            text = "\n".join(error_lines(f"{ERROR}{format_message()}"))
            error.format_message = lambda: text.removeprefix(ERROR)  # type: ignore[attr-defined]
        raise


def examples(command: str, *lines: str) -> str:
    """Returns the examples at the end of a command's help, kept line by line."""
    return "\n".join(("\b", "Examples:", *(f"  {command} {line}" for line in lines)))
