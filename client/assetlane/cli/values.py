"""Reads the values on a command line. typer loads pydantic for them, which takes longer than all else together."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE = frozenset({"", "0", "false", "f", "no", "n", "off"})


def read_plainly(params: Iterable[Any]) -> None:
    """Lets the parameters of a command read their values here, those of a type that is not known here excepted.

    A typer that does not convert by `get_runtime_param` goes on by itself.
    """
    for param in params:
        descriptor = getattr(param, "type_descriptor", None)
        if descriptor is not None and (read := _reader(descriptor.annotation, descriptor.parameter_info)) is not None:
            value = _Value(read)
            param.get_runtime_param = lambda value=value: value


class _Value:
    """Stands in for typer's own conversion of one parameter."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self._read = read

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Returns the value of a parameter. Raises BadParameter, which names it."""
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        try:
            return self._read(value)
        except ValueError as error:
            raise typer.BadParameter(str(error), ctx=ctx, param=param) from None


def _reader(annotation: Any, info: Any) -> Callable[[Any], Any] | None:
    """Returns what turns text into a value of that type, None for a type that it does not know."""
    if get_origin(annotation) is list:
        read = _reader(get_args(annotation)[0], info)
        return None if read is None else lambda texts: [read(text) for text in texts]
    if get_origin(annotation) is Literal:
        return lambda text: _chosen(text, get_args(annotation))
    if annotation in (int, float):
        return lambda text: _number(text, annotation, info.min, info.max)
    if annotation is bool:
        return _truth
    return annotation if annotation in (str, Path) else None


def _number(text: Any, kind: type[int | float], least: float | None, most: float | None) -> int | float:
    try:
        number = kind(text)
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("must be a whole number" if kind is int else "must be a number")
    if least is not None and number < least:
        raise ValueError(f"must be at least {least:g}")
    if most is not None and number > most:
        raise ValueError(f"must be at most {most:g}")
    return number


def _truth(value: Any) -> bool:
    word = str(value).strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError("must be true or false")
    return word in _TRUE


def _chosen(text: Any, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise ValueError(f"must be one of {', '.join(choices)}")
    return str(text)
