"""What a check found: a verdict, a sentence, and how to fix it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from assetlane_server.model.errors import NotReady, Refusal

CHECK_LIMIT = timedelta(seconds=15)

_CLOCK_WARNING = timedelta(seconds=5)
_CLOCK_FAILURE = timedelta(seconds=60)
_NAME_WIDTH = 24
_VERDICT_WIDTH = 8
SENTENCE_COLUMN = _VERDICT_WIDTH + _NAME_WIDTH + 2
"""Where the sentence of a printed finding begins."""


class Verdict(StrEnum):
    """How a check went."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "FAILED"
    SKIPPED = "skipped"  # what it stands on failed, so it says nothing


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    name: str
    verdict: Verdict
    detail: str  # one sentence: what was found
    advice: str = ""  # how to put it right

    @property
    def line(self) -> str:
        """How it is printed: one line, and one more where there is something to fix."""
        head = f"{self.verdict:<{_VERDICT_WIDTH}} {self.name:<{_NAME_WIDTH}} {self.detail}"
        return f"{head}\n{'':{SENTENCE_COLUMN}}-> {self.advice}" if self.advice else head


def ok(name: str, detail: str) -> Finding:
    """Returns that all is well."""
    return Finding(name, Verdict.OK, detail)


def warning(name: str, detail: str, advice: str) -> Finding:
    """Returns that it works and should be better."""
    return Finding(name, Verdict.WARNING, detail, advice)


def failed(name: str, detail: str, advice: str) -> Finding:
    """Returns that the server would not do its job."""
    return Finding(name, Verdict.FAILED, detail, advice)


def skipped(names: Iterable[str], because: str) -> Iterator[Finding]:
    """Yields that these checks say nothing, because what they stand on failed."""
    for name in names:
        yield Finding(name, Verdict.SKIPPED, f"Not checked: {because}.")


async def checked(name: str, check: Awaitable[Finding], advice: str, limit: timedelta = CHECK_LIMIT) -> Finding:
    """Returns the check's finding, or that it failed or did not end in time. One failure hides no other."""
    try:
        async with asyncio.timeout(limit.total_seconds()):
            return await check
    except TimeoutError:
        return failed(name, f"There was no result within {limit.total_seconds():g} s.", advice)
    except (NotReady, Refusal) as error:
        return failed(name, str(error), advice)
    except Exception as error:  # whatever a server makes its driver raise, the other checks go on
        return failed(name, f"The check itself failed ({type(error).__name__}).", advice)


async def guarded(name: str, findings: AsyncIterator[Finding]) -> AsyncIterator[Finding]:
    """Yields a group's findings; where the group itself breaks, that is the last of them."""
    try:
        async for finding in findings:
            yield finding
    except (NotReady, Refusal) as error:
        yield failed(name, str(error), "The checks after this one were not made: fix it and run doctor again.")
    except Exception as error:  # the groups after this one go on
        detail = f"The check itself failed ({type(error).__name__}: {str(error)[:200]})."
        yield failed(name, detail, "Report this, it is a defect of doctor; the checks after this one were not made.")


def clock_finding(name: str, whose: str, ahead: timedelta) -> Finding:
    """Returns what it means that another clock is so far ahead of this machine's, behind when negative."""
    seconds = round(ahead.total_seconds())
    direction = "ahead of" if seconds > 0 else "behind"
    detail = f"{whose} clock is {abs(seconds):,} s {direction} this machine's."
    advice = "Synchronise both clocks (NTP): signed URLs begin and end by them, and S3 refuses 15 minutes."
    if abs(ahead) > _CLOCK_FAILURE:
        return failed(name, detail, advice)
    if abs(ahead) > _CLOCK_WARNING:
        return warning(name, detail, advice)
    return ok(name, f"{whose} clock agrees with this machine's.")
