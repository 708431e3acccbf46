"""Where settings come from, and what is said of one that is wrong: in our words, by the name that the operator set.

The environment wins over the settings file, a TOML file of the same names in lower case without the prefix. A secret
may lie in a file of its own, named by the setting with `_FILE` after it, as container platforms mount them.
"""

import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assetlane_server.model.errors import SettingFault

PREFIX = "ASSETLANE_"
SETTINGS_FILE = f"{PREFIX}SETTINGS_FILE"
FROM_ENVIRONMENT, FROM_FILE, FROM_SECRET_FILE = "environment", "file", "secret file"
MAX_SECRET_BYTES = 64 * 1024
MAX_SETTINGS_BYTES = 1024 * 1024


@dataclass(slots=True)
class FoundValues:
    """The values that were found, by field; where each comes from, and what it is called there; what is wrong."""

    values: dict[str, object] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    faults: list[SettingFault] = field(default_factory=list)

    def take(self, name: str, value: object, source: str, called: str) -> None:
        """Notes a value, in place of an earlier one."""
        self.values[name], self.sources[name], self.names[name] = value, source, called

    def refuse(self, setting: str, reason: str, fault: str, expected: str = "") -> None:
        """Notes what is wrong with a setting."""
        self.faults.append(SettingFault(reason, (setting,), f"{setting}: {fault}", expected))


def read_sources(
    environment: Mapping[str, str], fields: Collection[str], secrets: Collection[str], ignored: Collection[str]
) -> FoundValues:
    """Returns what the environment, the settings file and the files of secrets hold.

    `ignored` are variables with our prefix that are somebody else's.
    """
    found = FoundValues()
    file = environment.get(SETTINGS_FILE, "")
    if file:
        pairs = list(_file_pairs(file, found))
        _take_all(found, pairs, fields, secrets, FROM_FILE)
    variables = [
        (variable, variable.removeprefix(PREFIX).lower(), text)
        for variable, text in environment.items()
        if variable.startswith(PREFIX) and variable not in ignored and variable != SETTINGS_FILE
    ]
    _take_all(found, variables, fields, secrets, FROM_ENVIRONMENT)
    return found


def _file_pairs(file: str, found: FoundValues) -> Iterator[tuple[str, str, object]]:
    """Yields name and value of each setting in the file; of none when it cannot be read."""
    try:
        text = _read(Path(file), MAX_SETTINGS_BYTES)
        table = tomllib.loads(text)
    except OSError as error:
        found.refuse(SETTINGS_FILE, "FILE_UNREADABLE", f"{file} cannot be read: {error.strerror or error}")
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError among them
        found.refuse(SETTINGS_FILE, "FILE_MALFORMED", f"{file} is not TOML: {error}")
    else:
        for name, value in table.items():
            yield f"{file}: {name}", name, value


def _take_all(
    found: FoundValues,
    pairs: Iterable[tuple[str, str, object]],
    fields: Collection[str],
    secrets: Collection[str],
    source: str,
) -> None:
    taken: dict[str, str] = {}
    for called, name, value in pairs:
        secret = name.removesuffix("_file")
        is_secret_file = name not in fields and secret != name and secret in secrets
        field_name = secret if is_secret_file else name
        if field_name not in fields:
            found.refuse(called, "SETTING_UNKNOWN", "there is no such setting")
        elif field_name in taken:
            both = (called, taken[field_name])
            found.faults.append(
                SettingFault("SETTINGS_EXCLUDE_EACH_OTHER", both, f"{' and '.join(both)} exclude each other: set one")
            )
        elif is_secret_file:
            taken[field_name] = called
            if (text := _secret(called, str(value), found)) is not None:
                found.take(field_name, text, FROM_SECRET_FILE, called)
        else:
            taken[field_name] = called
            found.take(field_name, value, source, called)


def _secret(called: str, file: str, found: FoundValues) -> str | None:
    """Returns what a file of a secret holds, without the line break at its end; None when it cannot be used."""
    try:
        text = _read(Path(file), MAX_SECRET_BYTES).rstrip("\r\n")
    except OSError as error:
        found.refuse(called, "FILE_UNREADABLE", f"{file} cannot be read: {error.strerror or error}")
        return None
    except ValueError:
        found.refuse(called, "FILE_MALFORMED", f"{file} is not UTF-8 text, or longer than {MAX_SECRET_BYTES} bytes")
        return None
    if not text:
        found.refuse(called, "FILE_EMPTY", f"{file} is empty")
        return None
    return text


def _read(file: Path, limit_bytes: int) -> str:
    with file.open("rb") as stream:
        data = stream.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise ValueError(f"it is longer than {limit_bytes} bytes")
    return data.decode()


@dataclass(frozen=True, slots=True)
class ValueFault:
    """What is wrong with a value: a stable reason, pydantic's error in our words, and what is expected instead."""

    reason: str
    phrase: str
    expected: str = ""  # see SettingFault


def value_fault(fault: Mapping[str, Any]) -> ValueFault:
    """Returns what an error of pydantic means."""
    context: Mapping[str, Any] = fault.get("ctx") or {}
    match fault["type"]:
        case "missing":
            return ValueFault("SETTING_MISSING", "is required")
        case kind if kind.isupper():  # ours: `fault_of` in settings.py
            return ValueFault(kind, str(fault["msg"]))
        case "greater_than_equal":
            least = f"{context['ge']:g}" if context["ge"] < 1e6 else context["ge"]
            return _out_of_range(f"must be at least {least}")
        case "greater_than":
            return _out_of_range(f"must be more than {context['gt']:g}")
        case "less_than_equal":
            return _out_of_range(f"must be at most {context['le']}")
        case "less_than":
            return _out_of_range(f"must be less than {context['lt']}")
        case "string_too_short":
            least = context["min_length"]
            return _out_of_range("must not be empty" if least == 1 else f"must have at least {least} characters")
        case "string_too_long":
            return _out_of_range(f"must have at most {context['max_length']} characters")
    expected, phrase = _malformed(fault["type"], context)
    return ValueFault("SETTING_MALFORMED", phrase, expected)


def _out_of_range(phrase: str) -> ValueFault:
    return ValueFault("SETTING_OUT_OF_RANGE", phrase)


def _malformed(kind: str, context: Mapping[str, Any]) -> tuple[str, str]:
    match kind:
        case "int_parsing" | "int_type" | "int_from_float" | "int_parsing_size":
            return "WHOLE_NUMBER", "must be a whole number"
        case "float_parsing" | "float_type" | "finite_number":
            return "NUMBER", "must be a number"
        case "bool_parsing" | "bool_type":
            return "BOOLEAN", "must be true or false"
        case "string_pattern_mismatch":
            return "PATTERN", f"must match {context['pattern']}"
        case "literal_error":
            return "CHOICE", f"must be {str(context['expected']).replace(chr(39), '')}"
        case "string_type" | "path_type" | "secret_str_type":
            return "TEXT", "must be a text"
        case "tuple_type":
            return "LIST", "must be a list, or texts joined by commas"
    return "", "is not a value that this setting takes"
