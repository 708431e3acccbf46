"""The `assetlane-server` command, also `python -m assetlane_server`. Needs the extra `assetlane[server]`."""

import sys

# What the extra brings, by the names that it is imported by.
_EXTRA = frozenset(
    {"anyio", "boto3", "botocore", "grpc_health", "grpc_reflection", "jwt", "motor", "prometheus_client",
     "pydantic", "pydantic_settings", "pymongo", "structlog", "typer", "ulid", "urllib3", "uvloop"}
)  # fmt: skip


def main() -> None:
    """Runs the command line. Without the extra, says what to install and exits with 1."""
    try:
        from assetlane_server.command.cli import main as run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        from assetlane.version import install_command

        sys.exit(f"assetlane-server: the server is an extra, install it with: {install_command('server,local')}")
    run()


if __name__ == "__main__":  # a worker process imports its parent's main module
    main()
