"""What is expected of an answer, and where an answer differs from it."""

import json
import re
from collections.abc import Mapping
from typing import Any

_NAME = re.compile(r"\$\{([\w.]+)\}")
_LONGEST = 300


def filled(template: Any, values: Mapping[str, Any]) -> Any:
    """Returns the template with each `${name}` replaced; one that is the whole text keeps the value's type.

    Raises KeyError for a name that has no value.
    """
    match template:
        case dict():
            return {key: filled(value, values) for key, value in template.items()}
        case list():
            return [filled(item, values) for item in template]
        case str() if whole := _NAME.fullmatch(template):
            return values[whole[1]]
        case str():
            return _NAME.sub(lambda name: str(values[name[1]]), template)
    return template


def picked(answer: Any, path: str) -> Any:
    """Returns what stands at a path such as `ok.asset.variants.0.read_url`. Raises LookupError."""
    for name in path.split("."):
        answer = answer[int(name)] if isinstance(answer, list) else answer[name]
    return answer


def difference(expected: Any, got: Any, path: str = "the answer") -> str | None:
    """Returns the first place where an answer is not as expected, None when it is.

    Objects may hold more than is expected, lists may not. `{"$at_least": n}` wants a number, `{"$without": text}`
    a text without that in it.
    """
    match expected:
        case {"$at_least": least}:
            fits = isinstance(got, int | float) and not isinstance(got, bool) and got >= least
            return None if fits else f"{path} should be at least {least}, and is {shown(got)}"
        case {"$without": text}:
            fits = isinstance(got, str) and got != "" and text not in got
            return None if fits else f"{path} should be a text without {text!r}, and is {shown(got)}"
        case dict():
            return _difference_of_objects(expected, got, path)
        case list():
            if not isinstance(got, list):
                return f"{path} should be a list, and is {shown(got)}"
            if len(got) != len(expected):
                return f"{path} should have {len(expected)} entries, and has {len(got)}: {shown(got)}"
            found = (
                difference(*pair, f"{path}[{index}]") for index, pair in enumerate(zip(expected, got, strict=True))
            )
            return next((fault for fault in found if fault), None)
    return (
        None
        if expected == got and type(expected) is type(got)
        else f"{path} should be {shown(expected)}, and is {shown(got)}"
    )


def _difference_of_objects(expected: Mapping[str, Any], got: Any, path: str) -> str | None:
    if not isinstance(got, dict):
        return f"{path} should be an object, and is {shown(got)}"
    for name, value in expected.items():
        where = f"{path}.{name}"
        if name not in got:
            return f"{where} is missing: there is {', '.join(sorted(got)) or 'nothing'}"
        if fault := difference(value, got[name], where):
            return fault
    return None


def shown(value: Any) -> str:
    """Returns a value for people: as JSON, cut where it gets long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
