"""The version of the distribution: semantic, one for client and server."""

__version__ = "0.2.0"


def install_command(extras: str) -> str:
    """Returns what installs these extras: of the wheel, since no registry has the package yet."""
    return f"pip install 'dist/assetlane-{__version__}-py3-none-any.whl[{extras}]' (make dist builds it)"
