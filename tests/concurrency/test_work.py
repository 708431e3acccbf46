"""Work that callers share, and many waits at once."""

import asyncio

import pytest

from assetlane_server.concurrency.gathering import all_at_once, all_settled
from assetlane_server.concurrency.work import Work
from assetlane_server.model.errors import ShuttingDown, StoreUnavailable, VariantsMissing

STALE = (VariantsMissing,)
LIMIT_S = 20.0
DOWN = StoreUnavailable("down")
BROKEN = ValueError("broken")


class BlockingWork:
    """Work that looks at the world when it begins, and answers when it is let."""

    def __init__(self) -> None:
        self.is_there = False
        self.begun = 0
        self.has_begun = asyncio.Event()
        self.let = asyncio.Event()

    async def look(self) -> str:
        """Returns or refuses what was there at its beginning."""
        self.begun += 1
        is_there = self.is_there
        self.has_begun.set()
        await self.let.wait()
        if not is_there:
            raise VariantsMissing(["original"])
        return "there"


async def test_those_who_join_share_an_outcome() -> None:
    """One task, however many ask."""
    work, looks = Work[str](), BlockingWork()
    looks.is_there = True
    looks.let.set()
    assert await asyncio.gather(*(work.run("a", looks.look, stale=STALE) for _ in range(8))) == ["there"] * 8
    assert looks.begun == 1


async def test_who_joins_work_begun_before_the_news_looks_once_more() -> None:
    """All that joined share the second look; the first caller's refusal was true when it was given."""
    work, looks = Work[str](), BlockingWork()
    async with asyncio.timeout(LIMIT_S):
        first = asyncio.create_task(work.run("a", looks.look, stale=STALE))
        await looks.has_begun.wait()
        looks.is_there = True
        joined = [asyncio.create_task(work.run("a", looks.look, stale=STALE)) for _ in range(5)]
        await asyncio.sleep(0)
        looks.let.set()
        with pytest.raises(VariantsMissing):
            await first
        assert await asyncio.gather(*joined) == ["there"] * 5
    assert looks.begun == 2


async def test_a_second_refusal_is_the_answer() -> None:
    """Nothing came: nobody looks for ever."""
    work, looks = Work[str](), BlockingWork()
    looks.let.set()
    outcomes = await asyncio.gather(*(work.run("a", looks.look, stale=STALE) for _ in range(5)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [VariantsMissing] * 5
    assert looks.begun == 2


async def test_other_refusals_are_everybodys() -> None:
    """A store that is down is down for those who joined, too."""

    async def fail() -> str:
        await asyncio.sleep(0)
        raise DOWN

    work = Work[str]()
    outcomes = await asyncio.gather(*(work.run("a", fail, stale=STALE) for _ in range(3)), return_exceptions=True)
    assert len({id(outcome) for outcome in outcomes}) == 1


async def test_at_the_end_nobody_looks_once_more() -> None:
    """A server that stops sends the caller elsewhere."""
    work, looks = Work[str](), BlockingWork()
    async with asyncio.timeout(LIMIT_S):
        tasks = [asyncio.create_task(work.run("a", looks.look, stale=STALE)) for _ in range(2)]
        await looks.has_begun.wait()
        finishing = asyncio.create_task(work.finish())
        await asyncio.sleep(0)
        looks.let.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await finishing
    assert [type(outcome) for outcome in outcomes] == [VariantsMissing, ShuttingDown]


async def test_results_come_in_the_order_of_the_waits() -> None:
    """Whichever is ready first."""

    async def later(number: int) -> int:
        for _ in range(number):
            await asyncio.sleep(0)
        return number

    assert await all_at_once(later(3), later(1), later(2)) == [3, 1, 2]
    assert await all_at_once() == []


async def test_when_one_fails_the_others_are_ended_before_it_is_raised() -> None:
    """As it is, in no group; also when the caller is cancelled."""
    ended = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def fail() -> None:
        await asyncio.sleep(0)
        raise DOWN

    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(StoreUnavailable) as raised:
            await all_at_once(wait(), fail(), wait())
        assert raised.value is DOWN
        assert len(ended) == 2
        task = asyncio.create_task(all_at_once(wait(), wait()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(ended) == 4


async def test_what_is_done_as_far_as_it_goes_goes_on_after_a_failure() -> None:
    """And the failure is raised when all have ended."""
    ended = []

    async def end(number: int) -> int:
        for _ in range(number):
            await asyncio.sleep(0)
        ended.append(number)
        return number

    async def fail() -> int:
        raise DOWN

    assert await all_settled(end(2), end(1)) == [2, 1]
    with pytest.raises(StoreUnavailable) as raised:
        await all_settled(end(5), fail(), end(3))
    assert raised.value is DOWN
    assert ended == [1, 2, 3, 5]


class Scene:
    """Work that waits to be let go, and what became of it."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.begun = 0
        self.both_begun = asyncio.Event()
        self.ended: list[str] = []

    async def slow(self, name: str) -> str:
        """Ends when it may."""
        self.begun += 1
        if self.begun == 2:
            self.both_begun.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.ended.append(f"{name} cancelled")
            raise
        self.ended.append(name)
        return name

    async def broken(self, *, lets_go: bool = False) -> str:
        """Fails, and lets the others go afterwards."""
        await asyncio.sleep(0)
        if lets_go:
            asyncio.get_running_loop().call_soon(self.may_end.set)
        raise BROKEN


async def test_at_once_the_others_end_when_one_fails() -> None:
    """And what failed is raised as it is, when nothing runs any more."""
    scene = Scene()
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - it is that very error
        await all_at_once(scene.slow("one"), scene.broken(), scene.slow("two"))
    assert raised.value is BROKEN
    assert sorted(scene.ended) == ["one cancelled", "two cancelled"]
    scene.may_end.set()
    assert await all_at_once(scene.slow("three"), scene.slow("four")) == ["three", "four"]
    assert await all_at_once() == []


async def test_settled_the_others_are_waited_for_when_one_fails() -> None:
    """A clean-up goes as far as it can, and nothing of it is left running."""
    scene = Scene()
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - it is that very error
        await all_settled(scene.slow("one"), scene.broken(lets_go=True), scene.slow("two"))
    assert raised.value is BROKEN
    assert scene.ended == ["one", "two"]
    assert await all_settled(scene.slow("three")) == ["three"]


@pytest.mark.parametrize("together", [all_at_once, all_settled])
async def test_a_caller_that_is_cancelled_ends_all_of_them(together: object) -> None:
    """Nobody is left to wait for them."""
    assert callable(together)
    scene = Scene()
    task = asyncio.ensure_future(together(scene.slow("one"), scene.slow("two")))
    await asyncio.wait_for(scene.both_begun.wait(), LIMIT_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert sorted(scene.ended) == ["one cancelled", "two cancelled"]


async def test_a_call_right_at_the_end_of_a_task_is_not_given_its_refusal() -> None:
    """It begins after the task has ended, and before the task is forgotten."""
    work: Work[str] = Work()
    calls: list[asyncio.Task[str]] = []

    async def found() -> str:
        return "found"

    async def missing() -> str:
        stale = (VariantsMissing,)
        calls.append(asyncio.create_task(work.run("key", found, stale=stale)))  # its first step follows this last one
        raise VariantsMissing(["original"])

    with pytest.raises(VariantsMissing):
        await work.run("key", missing)
    assert await calls[0] == "found"
