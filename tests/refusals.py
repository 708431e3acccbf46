"""What an error has to say to a program: its class, its reason, its field or setting, its limits. Never its words."""

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar, cast

import pytest

E = TypeVar("E", bound=BaseException)
_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")


def raises(
    kind: type[E],
    *,
    reason: str = "",
    field: str = "",
    setting: str = "",
    limits: Sequence[float] = (),
    names: Sequence[str] = (),
) -> "AbstractContextManager[pytest.ExceptionInfo[E], bool]":
    """Fails unless the block raises an error of this class that has all of what is named.

    `field` is a bad field of a request, `setting` a setting to correct. `limits` are numbers that the message gives
    (that of the field, if there is one). `names` are names that a user or another program has given, so that the
    message has to show them: of settings, options, parameters, files, rights, a store's error code. None has a blank:
    a sentence may change.
    """

    @contextmanager
    def block() -> Iterator[pytest.ExceptionInfo[E]]:
        with pytest.raises(kind) as raised:
            yield raised
        check(raised.value, reason=reason, field=field, setting=setting, limits=limits, names=names)

    # It swallows the error, which `contextmanager` cannot say to a type checker.
    return cast("AbstractContextManager[pytest.ExceptionInfo[E], bool]", block())


def check(
    error: Any,
    *,
    reason: str = "",
    field: str = "",
    setting: str = "",
    limits: Sequence[float] = (),
    names: Sequence[str] = (),
) -> None:
    """Fails unless an error that a test has in its hands has all of what is named: see `raises`."""
    if reason:
        assert error.reason == reason
    text = str(error)
    if field:
        fields = fields_of(error)
        assert field in fields, f"{field} is none of the bad fields: {', '.join(fields)}"
        text = fields[field]
    if setting:
        assert setting in error.settings
    numbers = numbers_in(text)
    assert set(limits) <= numbers, f"{sorted(limits)} are not all in {text!r}"
    shows(str(error), *names)


def shows(text: str, *names: str) -> None:
    """Fails unless a text shows all of these names: of files, variants, options, ids. None has a blank."""
    for name in names:
        assert not re.search(r"\s", name), f"{name!r} is a sentence, not a name"
        assert name in text, f"{name} is not in {text!r}"


def fields_of(error: Any) -> dict[str, str]:
    """Returns the bad fields of a request with what is right: of the server's error, or of the client's."""
    if hasattr(error, "violations"):
        return {violation.field: violation.limit for violation in error.violations}
    return dict(error.fields)


def numbers_in(text: str) -> set[float]:
    """Returns the numbers of a text; digits may be in groups of three."""
    return {float(found.replace(",", "")) for found in _NUMBER.findall(text)}
