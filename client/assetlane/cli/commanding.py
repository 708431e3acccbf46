"""What both commands have in common: the order in which they list themselves, help without noise, plain errors.

Needs typer, which the extras `cli` and `server` bring.
"""

import re
from typing import Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


_RANGE = re.compile(r"; [x\d.<=>]*x[\d.<=>]*(?=\])|\s*\[[x\d.<=>]*x[\d.<=>]*\]")  # `[x>=0]`: the error says it


# What typer says of a value that it refuses, and what it means.
_WORDS = (
    (re.compile(r"Input should be greater than or equal to (\S+)"), r"must be at least \1"),
    (re.compile(r"Input should be less than or equal to (\S+)"), r"must be at most \1"),
    (re.compile(r"Input should be greater than (\S+)"), r"must be more than \1"),
    (re.compile(r"Input should be less than (\S+)"), r"must be less than \1"),
    (re.compile(r"Input should be a valid integer.*"), "must be a whole number"),
    (re.compile(r"Input should be a valid number.*"), "must be a number"),
    (re.compile(r"Input should be a valid boolean.*"), "must be true or false"),
    (re.compile(r"Input should be ('.+)"), r"must be \1"),
    (re.compile(r"Value error, (.+?)\.?"), r"\1"),
)


def _plainly(message: str) -> str:
    for words, ours in _WORDS:
        if (match := words.fullmatch(message)) is not None:
            return match.expand(ours)
    return message


class Command(TyperCommand):
    """A command whose help names arguments as people type them, without types and ranges."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Reads the command's words; what is wrong with them is said in our own."""
        try:
            return super().make_context(*args, **kwargs)
        except typer.BadParameter as error:
            error.message = _plainly(error.message)
            raise

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
        """Reads the options before the command; what is wrong with them is said in our own words."""
        try:
            return super().make_context(*args, **kwargs)
        except typer.BadParameter as error:
            error.message = _plainly(error.message)
            raise

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
        for param in params:
            if param.name in ("install_completion", "show_completion"):
                param.hidden = True  # type: ignore[attr-defined]
        return params


def examples(command: str, *lines: str) -> str:
    """Returns the examples at the end of a command's help, kept line by line."""
    return "\n".join(("\b", "Examples:", *(f"  {command} {line}" for line in lines)))
