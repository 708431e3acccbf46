"""What protos/README.md says of errors is what the server does."""

import ast
import re
from pathlib import Path

import grpc

from assetlane_server.model import errors
from assetlane_server.model.upload import Status
from assetlane_server.rpc.errors import _CODES, answer_to

ROOT = Path(__file__).parent.parent
README = (ROOT / "protos" / "README.md").read_text()
CALLS, UPLOADS = README.partition("### Why an upload failed")[::2]
SAYS_WHY = {"Failure", "PictureRefused", "ImageRefused", "_moved"}


def test_the_table_of_errors_is_the_servers() -> None:
    """Every reason with its status, none missing, none made up."""
    documented = set(re.findall(r"^\| `([A-Z_]+)` \| `([A-Z_]+)` \|", CALLS, flags=re.MULTILINE))
    wrong_status = _CODES[errors.WrongStatus].name
    done = {
        *((code.name, refusal.reason) for refusal, code in _CODES.items() if refusal is not errors.WrongStatus),
        *((wrong_status, f"UPLOAD_{status.name}") for status in Status),
        (grpc.StatusCode.INTERNAL.name, "INTERNAL"),
    }
    assert documented == done


def test_the_reasons_to_fail_are_the_codes() -> None:
    """Whatever is given as a reason anywhere in the sources stands in the table, and nothing else does."""
    documented = set(re.findall(r"^\| `([A-Z_]+)` \| \w", UPLOADS, flags=re.MULTILINE))
    sources = [*(ROOT / "server").rglob("*.py"), *(ROOT / "client").rglob("*.py")]
    given = {reason for path in sources for reason in reasons_in(ast.parse(path.read_text()))}
    assert documented == given


def reasons_in(tree: ast.AST) -> set[str]:
    """Returns the constants given as a reason."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [call for call in calls if getattr(call.func, "id", getattr(call.func, "attr", "")) in SAYS_WHY]
    constants = [argument.value for call in named for argument in call.args if isinstance(argument, ast.Constant)]
    return {text for text in constants if isinstance(text, str) and re.fullmatch(r"[A-Z]+(_[A-Z]+)*", text)}


def test_an_unknown_error_is_internal() -> None:
    """As the table says."""
    assert answer_to(LookupError("secret"), "GetUpload", "r-1").code is grpc.StatusCode.INTERNAL
