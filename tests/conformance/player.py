"""A client under test: a process that is asked with a line of JSON on its stdin and answers with one on its stdout."""

import asyncio
import json
from asyncio.subprocess import PIPE
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

STEP_LIMIT_S: Final = 150.0
END_LIMIT_S: Final = 10.0
LONGEST_LINE_BYTES: Final = 1024**2


class NoAnswerError(Exception):
    """The client did not answer as the protocol wants it."""


class Player:
    """Asks one client, a step at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._asked = 0
        self.last_words: deque[str] = deque(maxlen=20)
        """The end of what it wrote to its stderr."""

    async def ask(self, do: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the answer without its id. Raises NoAnswerError."""
        self._asked += 1
        line = json.dumps({"id": self._asked, "do": do, "with": dict(arguments)}, ensure_ascii=False)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(STEP_LIMIT_S):
                self._process.stdin.write(line.encode() + b"\n")
                await self._process.stdin.drain()
                answer = await self._process.stdout.readline()
        except TimeoutError:
            raise NoAnswerError(f"it did not answer within {STEP_LIMIT_S:g} s") from None
        except (ConnectionError, ValueError) as error:
            raise NoAnswerError(f"it does not listen: {error}") from error
        if not answer:
            raise NoAnswerError("it ended instead of answering")
        try:
            reply = json.loads(answer)
        except ValueError:
            raise NoAnswerError(f"it answered with what is no JSON: {answer[:200]!r}") from None
        if not isinstance(reply, dict) or reply.pop("id", None) != self._asked:
            raise NoAnswerError(f"its answer is not one to the step with id {self._asked}: {answer[:200]!r}")
        return reply

    async def listen(self) -> None:
        """Keeps the end of its stderr."""
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.last_words.append(line.decode(errors="replace").rstrip())


@asynccontextmanager
async def player(command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> AsyncIterator[Player]:
    """Runs a client. At the end its stdin closes, which should end it; if it does not, it is killed."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=dict(environment), stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=LONGEST_LINE_BYTES
    )
    playing = Player(process)
    listening = asyncio.create_task(playing.listen())
    try:
        yield playing
    finally:
        assert process.stdin is not None
        process.stdin.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), END_LIMIT_S)
        if process.returncode is None:
            process.kill()
            await process.wait()
        await listening
