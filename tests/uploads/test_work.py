"""Things done at the same time: what becomes of the others when one fails."""

import asyncio

import pytest

from assetlane_server.uploads.work import all_at_once, all_settled


class Scene:
    """Work that waits to be let go, and what became of it."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.ended: list[str] = []

    async def slow(self, name: str) -> str:
        """Ends when it may."""
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
        raise ValueError("broken")


async def test_at_once_the_others_end_when_one_fails() -> None:
    """And what failed is raised as it is, when nothing runs any more."""
    scene = Scene()
    with pytest.raises(ValueError, match="broken"):
        await all_at_once(scene.slow("one"), scene.broken(), scene.slow("two"))
    assert sorted(scene.ended) == ["one cancelled", "two cancelled"]
    scene.may_end.set()
    assert await all_at_once(scene.slow("three"), scene.slow("four")) == ["three", "four"]
    assert await all_at_once() == []


async def test_settled_the_others_are_waited_for_when_one_fails() -> None:
    """A clean-up goes as far as it can, and nothing of it is left running."""
    scene = Scene()
    with pytest.raises(ValueError, match="broken"):
        await all_settled(scene.slow("one"), scene.broken(lets_go=True), scene.slow("two"))
    assert scene.ended == ["one", "two"]
    assert await all_settled(scene.slow("three")) == ["three"]


@pytest.mark.parametrize("together", [all_at_once, all_settled])
async def test_a_caller_that_is_cancelled_ends_all_of_them(together: object) -> None:
    """Nobody is left to wait for them."""
    assert callable(together)
    scene = Scene()
    task = asyncio.ensure_future(together(scene.slow("one"), scene.slow("two")))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert sorted(scene.ended) == ["one cancelled", "two cancelled"]
