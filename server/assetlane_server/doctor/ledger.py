"""Checks of MongoDB: that it answers, is of the right kind, keeps what it is given, and reports changes."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta

from assetlane_server.composition.security import read_policy
from assetlane_server.config.settings import IN_MONGODB, Settings
from assetlane_server.doctor.finding import (
    Finding,
    checked,
    clock_finding,
    failed,
    ok,
    skipped,
    warning,
)
from assetlane_server.doctor.guard import RINGS, rings_finding
from assetlane_server.model.errors import NotReady
from assetlane_server.model.rings import RingsUnreadable
from assetlane_server.records.mongo import MongoRecords
from assetlane_server.records.survey import MongoSurvey, ServerFacts, SurveyFailed

_log = logging.getLogger(__name__)

_CALL_LIMIT = timedelta(seconds=5)
_STREAM_LIMIT = timedelta(seconds=5)
_SLOW_STREAM = timedelta(seconds=1)

_RIGHTS = "Give the user of ASSETLANE_MONGO_URI the role `readWrite` on the database ASSETLANE_MONGO_DATABASE."
_REPLICA_SET = (
    "Make it a replica set: `mongod --replSet rs0`, then `rs.initiate()` once; one member is enough for development."
)
_REACH = "Look at ASSETLANE_MONGO_URI, at the network between, and whether the server runs and has a primary."

NAMES = ("MongoDB kind", "MongoDB clock", "majority write", "change stream", "indexes")
_TOKENS = "scoped tokens"


async def ledger_findings(settings: Settings, now: Callable[[], datetime]) -> AsyncIterator[Finding]:
    """Yields what is found, in order."""
    limit = min(timedelta(seconds=settings.mongo_timeout_seconds), _CALL_LIMIT)
    uri = settings.mongo_uri.get_secret_value()
    try:
        async with MongoRecords.survey(uri, settings.mongo_database, call_timeout=limit) as survey:
            async for finding in _findings(survey, settings, now):
                yield finding
    except NotReady as error:
        yield failed("MongoDB", str(error), "Look at ASSETLANE_MONGO_URI.")
        for finding in skipped(NAMES, "MongoDB cannot be asked"):
            yield finding


async def _findings(survey: MongoSurvey, settings: Settings, now: Callable[[], datetime]) -> AsyncIterator[Finding]:
    try:
        facts = await survey.facts()
    except SurveyFailed as error:
        advice = "Look at user, password and authSource in ASSETLANE_MONGO_URI." if error.is_refused else _REACH
        yield failed("MongoDB", f"It does not answer: {error}", advice)
        for finding in skipped(NAMES, "MongoDB cannot be asked"):
            yield finding
        return
    yield ok("MongoDB", "It answers.")
    yield _kind(facts)
    yield clock_finding("MongoDB clock", "MongoDB's", facts.local_time - facts.asked_at)
    try:
        yield await checked("majority write", _writes(survey), _RIGHTS)
        yield await checked("change stream", _streams(survey), _RIGHTS)
        yield await checked("indexes", _indexes(survey), _RIGHTS)
        if settings.has_identity and settings.token_keys == IN_MONGODB:
            yield await checked(_TOKENS, _rings(survey, settings, now()), RINGS)
    finally:
        try:
            await survey.drop_scratch()
        except SurveyFailed as error:
            _log.info("the scratch collection could not be dropped: %s", error)


def _kind(facts: ServerFacts) -> Finding:
    if facts.has_change_streams:
        return ok("MongoDB kind", f"It is a {facts.kind}.")
    return failed("MongoDB kind", f"It is a {facts.kind}: there are no change streams, and watching needs them.",
                  _REPLICA_SET)  # fmt: skip


async def _writes(survey: MongoSurvey) -> Finding:
    name = "majority write"
    try:
        is_kept = await survey.write_and_read()
    except SurveyFailed as error:
        return failed(name, f"A majority write failed: {error}", _RIGHTS if error.is_refused else _REACH)
    if is_kept:
        return ok(name, "A majority write is read back.")
    return failed(name, "A majority write is not read back.", "Let ASSETLANE_MONGO_URI read from the primary.")


async def _streams(survey: MongoSurvey) -> Finding:
    name = "change stream"
    try:
        delay = await survey.stream_delay(_STREAM_LIMIT)
    except SurveyFailed as error:
        return failed(name, f"It cannot be opened: {error}", _RIGHTS if error.is_refused else _REPLICA_SET)
    if delay is None:
        detail = f"A change did not arrive within {_STREAM_LIMIT.total_seconds():g} s."
        return failed(name, detail, "Look at the replication of the set: a change arrives once a majority has it.")
    detail = f"A change arrived after {delay / timedelta(milliseconds=1):.0f} ms."
    if delay > _SLOW_STREAM:
        return warning(name, detail, "Look at the replication of the set: a change arrives once a majority has it.")
    return ok(name, detail)


async def _rings(survey: MongoSurvey, settings: Settings, now: datetime) -> Finding:
    services = (await asyncio.to_thread(read_policy, settings)).services
    try:
        return rings_finding(_TOKENS, services, await survey.rings.read_rings(), now)
    except RingsUnreadable as error:
        return failed(_TOKENS, str(error), RINGS)


async def _indexes(survey: MongoSurvey) -> Finding:
    name = "indexes"
    try:
        missing = await survey.missing_indexes()
    except SurveyFailed as error:
        return failed(name, f"They cannot be listed: {error}", _RIGHTS if error.is_refused else _REACH)
    if not missing:
        return ok(name, "All are there.")
    return warning(
        name,
        f"Missing or wrong: {', '.join(missing)}.",
        "Start the server once: it creates missing indexes. Drop a wrong one before.",
    )
