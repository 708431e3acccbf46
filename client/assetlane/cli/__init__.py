"""The `assetlane` command. Needs the extra `cli`."""

import io
import os
import sys

_EXTRA = frozenset({"typer", "rich", "click"})


def main() -> None:
    """Runs the command line. Without the extra, says what to install and exits with 1."""
    # gRPC's core writes connection news to stderr; errors reach the user as one line of ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name may have letters that the terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        from assetlane.cli.commands import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        from assetlane.version import install_command

        sys.exit(f"assetlane: the command line is an extra, install it with: {install_command('cli')}")
    from assetlane.cli.output import complain
    from assetlane.errors import AssetlaneError

    try:
        app(prog_name="assetlane")
    except AssetlaneError as error:  # before a call was made, such as a token file that cannot be read
        complain(error)
        sys.exit(1)
