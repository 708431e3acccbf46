"""Writes the reference of the API, `docs/api.md`, from the descriptors and their comments; `--check` only compares.

`buf build` reads `protos/`; nothing is said here that the .proto files do not say. `examples.json` has a call of each
RPC; a test makes these calls to a server.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent
REFERENCE: Final = ROOT / "docs" / "api.md"
EXAMPLES: Final = ROOT / "protos" / "examples.json"
PACKAGE: Final = "assetlane.v1"
FILES: Final = ("upload_service", "asset_service", "access_service", "upload", "asset")
INTRODUCTION: Final = """\
# API reference

Made by `make proto` from the comments in [`protos/`](../protos/README.md), which also explain the guarantees, the \
error reasons and the rules of versions.
Package `assetlane.v1`; every error carries one `google.rpc.ErrorInfo` with domain `assetlane`.
The examples call a server of `make run`; `…` stands for what is left out.
"""

# Numbers of FileDescriptorProto and below, in descriptor.proto: what a comment's path is made of.
_MESSAGES, _ENUMS, _SERVICES, _FIELDS, _VALUES, _METHODS, _ONEOFS = 4, 5, 6, 2, 2, 2, 8
_SCALARS: Final = {"TYPE_DOUBLE": "double", "TYPE_INT32": "int32", "TYPE_INT64": "int64", "TYPE_BOOL": "bool"}
_SCALARS_OF_TEXT: Final = {"TYPE_STRING": "string", "TYPE_BYTES": "bytes"}

Descriptor = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """One .proto file: its descriptor, and the comments by path."""

    descriptor: Descriptor
    comments: Mapping[tuple[int, ...], str]

    @classmethod
    def of(cls, descriptor: Descriptor) -> "Source":
        """Returns the file with its comments at hand."""
        places = descriptor["sourceCodeInfo"]["location"]
        comments = {tuple(place.get("path", ())): place.get("leadingComments", "") for place in places}
        return cls(descriptor, comments)

    def comment(self, *path: int) -> str:
        """Returns the comment of an element, without the space that begins each line."""
        return re.sub(r"^ ", "", self.comments.get(path, ""), flags=re.MULTILINE).strip()


def built_files() -> dict[str, Descriptor]:
    """Returns the descriptors of all .proto files, comments included, by the files' names."""
    built = subprocess.run(
        [Path(sys.executable).parent / "buf", "build", "protos", "-o", "-#format=json"],
        cwd=ROOT, check=True, capture_output=True,
    ).stdout  # fmt: skip
    return {file["name"]: file for file in json.loads(built)["file"]}


def reference() -> str:
    """Returns the whole page."""
    files = built_files()
    sources = [Source.of(files[f"assetlane/v1/{name}.proto"]) for name in FILES]
    lines = [INTRODUCTION, *_contents(sources)]
    for source in sources:
        for part in (_services(source), _messages(source), _enums(source)):
            lines.extend(part)
    return "\n".join(lines).rstrip() + "\n"


def _contents(sources: Sequence[Source]) -> Iterator[str]:
    """Every RPC by its service, then all messages and enums by name."""
    yield "## Contents\n"
    yield "| service | RPCs |\n|---|---|"
    for source in sources:
        for service in source.descriptor.get("service", ()):
            yield f"| {_heading(service['name'])} | {', '.join(_heading(rpc['name']) for rpc in service['method'])} |"
    for title, kind in (("Messages", "messageType"), ("Enums", "enumType")):
        names = sorted(item["name"] for source in sources for item in source.descriptor.get(kind, ()))
        yield f"\n{title}: {', '.join(map(_heading, names))}."
    yield ""


def _heading(name: str) -> str:
    return f"[{name}](#{name.lower()})"


def _services(source: Source) -> Iterator[str]:
    examples = {example["rpc"]: example for example in json.loads(EXAMPLES.read_text())}
    for index, service in enumerate(source.descriptor.get("service", ())):
        yield f"## {service['name']}\n\n{_prose(source.comment(_SERVICES, index))}\n"
        for number, method in enumerate(service["method"]):
            stream = "stream " if method.get("serverStreaming") else ""
            request, response = _link(method["inputType"]), _link(method["outputType"])
            yield f"### {method['name']}\n\n{request} → {stream}{response}, by REST {_paths(method)}\n"
            text, _, errors = source.comment(_SERVICES, index, _METHODS, number).partition("Errors:\n")
            yield f"{_prose(text)}\n"
            yield from _errors(errors)
            yield from _example(f"{PACKAGE}.{service['name']}", method, examples[f"{service['name']}.{method['name']}"])


def _paths(method: Descriptor) -> str:
    """Returns the method and path of each REST binding."""
    rule = method["options"]["[google.api.http]"]
    rules = [rule, *rule.get("additionalBindings", ())]
    verbs = ("get", "put", "post", "delete", "patch")
    return ", ".join(f"`{verb.upper()} {one[verb]}`" for one in rules for verb in verbs if verb in one)


def _example(service: str, method: Descriptor, example: Descriptor) -> Iterator[str]:
    request = json.dumps(example["request"], ensure_ascii=False)
    response = json.dumps(example["response"], ensure_ascii=False, indent=2)
    call = f"grpcurl -plaintext -d '{request}' 127.0.0.1:50151 {service}/{method['name']}"
    yield f"```console\n$ {call}\n{response}\n```\n"


def _errors(text: str) -> Iterator[str]:
    """An error begins a line with its code; what follows until the next one belongs to it."""
    rows = re.findall(r"^([A-Z_]+) \(([^)]+)\) (.+?)(?=^[A-Z_]+ \(|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    yield "| status | reason | when |\n|---|---|---|"
    for code, reasons, when in rows:
        named = ", ".join(f"`{reason.strip()}`" for reason in reasons.split(","))
        yield f"| `{code}` | {named} | {_cell(when)} |"
    yield ""


def _messages(source: Source) -> Iterator[str]:
    for index, message in enumerate(source.descriptor.get("messageType", ())):
        yield f"## {message['name']}\n\n{_prose(source.comment(_MESSAGES, index))}\n"
        fields: Sequence[Descriptor] = message.get("field", ())
        if not fields:
            continue
        entries = {entry["name"]: entry for entry in message.get("nestedType", ())}
        yield "| field | type | meaning |\n|---|---|---|"
        for number, field in enumerate(fields):
            yield (
                f"| `{field['name']}` = {field['number']} | {_type(field, message, entries)} "
                f"| {_cell(source.comment(_MESSAGES, index, _FIELDS, number))} |"
            )
        yield ""
        for number, oneof in enumerate(message.get("oneofDecl", ())):
            if comment := source.comment(_MESSAGES, index, _ONEOFS, number):
                yield f"One of `{oneof['name']}`:\n{_prose(comment)}\n"


def _enums(source: Source) -> Iterator[str]:
    for index, enum in enumerate(source.descriptor.get("enumType", ())):
        yield f"## {enum['name']}\n\n{_prose(source.comment(_ENUMS, index))}\n"
        yield "| value | meaning |\n|---|---|"
        for number, value in enumerate(enum["value"]):
            comment = _cell(source.comment(_ENUMS, index, _VALUES, number))
            yield f"| `{value['name']}` = {value.get('number', 0)} | {comment} |"
        yield ""


def _type(field: Descriptor, message: Descriptor, entries: Mapping[str, Descriptor]) -> str:
    kind = field["type"]
    if kind not in ("TYPE_MESSAGE", "TYPE_ENUM"):
        name = (_SCALARS | _SCALARS_OF_TEXT)[kind]
    elif (entry := entries.get(field["typeName"].rpartition(".")[2])) is not None:
        key, value = (_type(part, message, {}) for part in entry["field"])
        return f"map of {key} to {value}"
    else:
        name = _link(field["typeName"])
    if field.get("proto3Optional"):
        return f"optional {name}"
    if "oneofIndex" in field:
        return f"{name}, one of `{message['oneofDecl'][field['oneofIndex']]['name']}`"
    return f"repeated {name}" if field["label"] == "LABEL_REPEATED" else name


def _link(type_name: str) -> str:
    package, _, name = type_name.lstrip(".").rpartition(".")
    return _heading(name) if package == PACKAGE else f"`{package}.{name}`"


def _prose(text: str) -> str:
    """Joins the lines of a paragraph and gives each sentence one; what is indented stays as it is."""
    joined = re.sub(r"(?<=[^\n])\n(?=[^\n ])", " ", text).strip()
    return re.sub(r"(?<=[.!?]) (?=[A-Z`])", "\n", joined)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> int:
    """Writes the page, or with `--check` returns 1 when it is not what the contract says."""
    page = reference()
    if "--check" in sys.argv:
        if not REFERENCE.exists() or REFERENCE.read_text() != page:
            sys.stderr.write("docs/api.md is not what protos/ says: run `make proto` and commit\n")
            return 1
        return 0
    REFERENCE.parent.mkdir(exist_ok=True)
    REFERENCE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
