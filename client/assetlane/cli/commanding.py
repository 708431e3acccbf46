"""What the commands have in common: the order in which they are listed, how help looks, options that return often."""

import re
from typing import Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

ORDER = (
    "upload", "ls", "show", "get", "open", "watch", "uploads", "cancel", "refresh", "rm", "status", "version",
)  # fmt: skip

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


_RANGE = re.compile(r"; [x\d.<=>]*x[\d.<=>]*(?=\])|\s*\[[x\d.<=>]*x[\d.<=>]*\]")  # `[x>=0]`: the error tells it


class Command(TyperCommand):
    """A command whose help names arguments as people type them, without types and ranges."""

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
    """Lists the commands in the order in which a newcomer needs them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Returns their names."""
        return sorted(super().list_commands(ctx), key=lambda name: (*ORDER, name).index(name))

    def get_params(self, ctx: Any) -> list[Any]:
        """Returns the options; those about completion are told in a line of their own."""
        params = super().get_params(ctx)
        for param in params:
            if param.name in ("install_completion", "show_completion"):
                param.hidden = True  # type: ignore[attr-defined]
        return params


def examples(*lines: str) -> str:
    """Returns the examples at the end of a command's help, kept line by line."""
    return "\n".join(("\b", "Examples:", *(f"  assetlane {line}" for line in lines)))
