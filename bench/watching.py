"""What watches cost: memory and CPU while idle, the way of a change to its watcher, one change to very many."""

import asyncio
import time
from collections.abc import Iterable
from statistics import median
from typing import TYPE_CHECKING, Final

import grpc

from assetlane.v1.upload_service_pb2 import CancelUploadRequest, WatchUploadRequest
from assetlane.v1.upload_service_pb2_grpc import UploadServiceStub
from assetlane_server.config.settings import PREFIX, settings_from
from bench.figures import Bound, Figure, Finding, Goal, Measure, Peer
from bench.picture_requests import picture_requests
from bench.processes import ServerProcess, server_process
from bench.stores import NOTES, stores, variables
from bench.wakeups import Percentiles, Wakeup, WakeupSampler
from bench.watches import Watches, watches

if TYPE_CHECKING:
    from assetlane.v1.upload_service_pb2_grpc import UploadServiceAsyncStub

LEVELS: Final = (1_000, 5_000, 10_000)
MOST: Final = LEVELS[-1]
FEW: Final = 10
UPLOADS: Final = 1_000  # watched by one to ten each
FIRST_EVENTS: Final = 2  # PENDING, INITIALIZED
SETTLE_S: Final = 2.0
IDLE_S: Final = 10.0
SAMPLES: Final = 500
FAN_OUTS: Final = 5
FAN_OUT_LIMIT_S: Final = 60.0
REQUESTS_IN_FLIGHT: Final = 16

OURS, FLOOR, READING_FLOOR = "assetlane", "floor", "reading floor"
DATABASE: Final = f"{PREFIX}MONGO_DATABASE"
KIB: Final = 1024
AT_MOST_30_KIB: Final = Goal(Bound.AT_MOST, 30)
AT_MOST_5_PERCENT: Final = Goal(Bound.AT_MOST, 5)
AT_MOST_3_MS_ABOVE: Final = Goal(Bound.AT_MOST, 3, Measure.EXCESS)
NO_GROWTH: Final = Goal(Bound.AT_MOST, 1.5, Measure.RATIO)
AT_MOST_TWICE: Final = Goal(Bound.AT_MOST, 2, Measure.RATIO)
AT_MOST_HALF_MORE: Final = Goal(Bound.AT_MOST, 1.5, Measure.RATIO)
AT_MOST_2_S: Final = Goal(Bound.AT_MOST, 2)


async def measure() -> Finding:
    """Opens watches on a server and a bare one, lets them idle, wakes one, wakes all."""
    async with stores() as address:
        ours, few = (variables(address, name, max_watches=str(2 * MOST)) for name in ("ours", "few"))
        same_uploads = {DATABASE: ours[DATABASE]}
        async with (
            server_process(["assetlane_server", "serve"], ours) as server,
            server_process(["assetlane_server", "serve"], few) as server_of_few,
            server_process(["bench.floor"], variables(address, "floor")) as floor,
            server_process(["bench.reading_floor"], variables(address, "reading") | same_uploads) as reading_floor,
            watches(floor.target) as floor_watches,
        ):
            async with watches(server.target) as idle, watches(server_of_few.target) as few_idle:
                async with watches(reading_floor.target) as reading_watches:
                    sides = {server: idle, floor: floor_watches, reading_floor: reading_watches}
                    figures = await _idling(sides, server, floor, reading_floor)
                await few_idle.open(await _upload_watches(server_of_few.target, FEW), FIRST_EVENTS)
                async with (
                    WakeupSampler.on(server.target, settings_from(ours)) as among_many,
                    WakeupSampler.on(server_of_few.target, settings_from(few)) as among_few,
                ):
                    figures += await _waking(among_few, among_many)
            async with watches(server_of_few.target) as session:
                figures += await _fanning_out(server_of_few, session, floor, floor_watches)
    notes = (
        f"Idle watches are on {UPLOADS:,} uploads of four variants; each has sent PENDING and INITIALIZED.",
        "The floor sends bytes that it has; the reading floor reads the upload, builds both events and signs the URLs.",
        f"Idle CPU is of one core, over {IDLE_S:g} s, and includes the heartbeat that each watch gets every 30 s.",
        f"Wake-ups: {SAMPLES} each, interleaved, from the acknowledgement of the write to the event's arrival.",
        f"Fan-out: medians of {FAN_OUTS}, from the call of CancelUpload to the last event, one process receives all.",
        *NOTES,
    )
    return Finding("WatchUpload: idle, waking one, waking all", tuple(figures), notes)


async def _idling(
    sides: dict[ServerProcess, Watches], server: ServerProcess, floor: ServerProcess, reading_floor: ServerProcess
) -> list[Figure]:
    requests = await _upload_watches(server.target, MOST)
    await asyncio.sleep(SETTLE_S)
    memory = {process: process.memory_bytes() for process in sides}
    opening_s = dict.fromkeys(sides, 0.0)
    opening_cpu_s = dict.fromkeys(sides, 0.0)
    figures: list[Figure] = []
    for level in LEVELS:
        for process, opened in sides.items():
            cpu_s = process.cpu_seconds()
            opening_s[process] += await opened.open(requests[opened.count : level], FIRST_EVENTS)
            opening_cpu_s[process] += process.cpu_seconds() - cpu_s
        await asyncio.sleep(SETTLE_S)
        kib = {process: (process.memory_bytes() - memory[process]) / level / KIB for process in sides}
        percent = await _idle_cpu_percent(sides)
        for opened in sides.values():
            opened.check()
        case = f"{level:,} idle watches"
        opening_us = {process: cpu_s / level * 1e6 for process, cpu_s in opening_cpu_s.items()}
        bare, reading = Peer(FLOOR, opening_us[floor]), Peer(READING_FLOOR, opening_us[reading_floor])
        opening = f"{case}: server CPU to open one"
        figures += [
            Figure(f"{case}: memory of each", kib[server], "KiB", Peer(FLOOR, kib[floor]), AT_MOST_30_KIB),
            Figure(f"{case}: server CPU", percent[server], "%", Peer(FLOOR, percent[floor]), AT_MOST_5_PERCENT),
            Figure(f"{case}: opening all", opening_s[server], "s", Peer(FLOOR, opening_s[floor])),
            Figure(opening, opening_us[server], "µs", bare, AT_MOST_TWICE),
            Figure(opening, opening_us[server], "µs", reading),
        ]
    return figures


async def _idle_cpu_percent(processes: Iterable[ServerProcess]) -> dict[ServerProcess, float]:
    before = {process: process.cpu_seconds() for process in processes}
    begun = time.perf_counter()
    await asyncio.sleep(IDLE_S)
    elapsed_s = time.perf_counter() - begun
    return {process: (process.cpu_seconds() - before[process]) / elapsed_s * 100 for process in processes}


async def _waking(among_few: WakeupSampler, among_many: WakeupSampler) -> list[Figure]:
    samples: dict[WakeupSampler, list[Wakeup]] = {among_few: [], among_many: []}
    for number in range(SAMPLES + FEW):
        for sampler, found in samples.items():
            wakeup = await sampler.sample()
            if number >= FEW:  # the first ones warm up
                found.append(wakeup)
    figures: list[Figure] = []
    p99_among_few = 0.0
    for sampler, idle in ((among_few, FEW), (among_many, MOST)):
        watch = Percentiles.of([wakeup.watch_ms for wakeup in samples[sampler]])
        bare = Percentiles.of([wakeup.bare_ms for wakeup in samples[sampler]])
        peer = Peer("change stream", bare.p50)
        figures.append(Figure(f"wake-up among {idle:,}: p50", watch.p50, "ms", peer, AT_MOST_3_MS_ABOVE))
        figures.append(Figure(f"wake-up among {idle:,}: p99", watch.p99, "ms", Peer("change stream", bare.p99)))
        if p99_among_few:
            few = Peer(f"among {FEW}", p99_among_few)
            figures.append(Figure(f"wake-up among {idle:,}: p99", watch.p99, "ms", few, NO_GROWTH))
        p99_among_few = watch.p99
    return figures


async def _fanning_out(server: ServerProcess, ours: Watches, floor: ServerProcess, bare: Watches) -> list[Figure]:
    took_s: dict[str, list[float]] = {OURS: [], FLOOR: []}
    cpu_us: dict[str, list[float]] = {OURS: [], FLOOR: []}
    request = picture_requests(1)[0]
    async with (
        grpc.aio.insecure_channel(server.target) as channel,
        grpc.aio.insecure_channel(floor.target) as floor_channel,
    ):
        stub, floor_stub = UploadServiceStub(channel), UploadServiceStub(floor_channel)
        sides = ((OURS, server, ours, stub), (FLOOR, floor, bare, floor_stub))
        upload_id = (await stub.RequestUpload(request)).upload.upload_id
        await ours.open([WatchUploadRequest(session_id=request.session_id)] * MOST, FIRST_EVENTS)
        for number in range(FAN_OUTS):
            if number:
                delivered = ours.tally(FIRST_EVENTS)
                request.request_id = picture_requests(1)[0].request_id
                upload_id = (await stub.RequestUpload(request)).upload.upload_id
                await delivered.complete(FAN_OUT_LIMIT_S)
            for name, process, watched, its_stub in sides:
                delivered, begun, cpu_s = watched.tally(1), time.perf_counter(), process.cpu_seconds()
                await its_stub.CancelUpload(CancelUploadRequest(upload_id=upload_id))
                took_s[name].append(await delivered.complete(FAN_OUT_LIMIT_S) - begun)
                cpu_us[name].append((process.cpu_seconds() - cpu_s) / MOST * 1e6)
    case = f"one change to {MOST:,} watchers"
    seconds, microseconds = Peer(FLOOR, median(took_s[FLOOR])), Peer(FLOOR, median(cpu_us[FLOOR]))
    return [
        Figure(f"{case}: until the last has it", median(took_s[OURS]), "s", None, AT_MOST_2_S),
        Figure(f"{case}: until the last has it", median(took_s[OURS]), "s", seconds, AT_MOST_HALF_MORE),
        Figure(f"{case}: server CPU for each", median(cpu_us[OURS]), "µs", microseconds),
    ]


async def _upload_watches(target: str, count: int) -> list[WatchUploadRequest]:
    """Requests uploads, and returns the requests that watch them in turn."""
    gate = asyncio.Semaphore(REQUESTS_IN_FLIGHT)
    async with grpc.aio.insecure_channel(target) as channel:
        stub: UploadServiceAsyncStub = UploadServiceStub(channel)

        async def request(number: int) -> str:
            async with gate:
                return (await stub.RequestUpload(accepted[number])).upload.upload_id

        accepted = picture_requests(min(count, UPLOADS))
        upload_ids = await asyncio.gather(*(request(number) for number in range(len(accepted))))
    return [WatchUploadRequest(upload_id=upload_ids[number % len(upload_ids)]) for number in range(count)]
