"""Awaits several at once."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def all_at_once(*waiting: Awaitable[T]) -> list[T]:
    """Returns all results in order. When one fails, ends the others, and then raises what failed, as it is.

    Not a TaskGroup, which wraps it; not `gather` alone, which leaves the others running.
    """
    tasks = [asyncio.ensure_future(one) for one in waiting]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def all_settled(*waiting: Awaitable[T]) -> list[T]:
    """Returns all results in order. When one fails, waits for the others, and then raises the first failure.

    For what has to be done as far as it can be: a clean-up that fails must not end the clean-ups beside it, nor leave
    them to nobody.
    """
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
