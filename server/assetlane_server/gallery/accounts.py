"""Users and sessions of the sample, in a MongoDB database of its own.

A production site leaves this to its identity provider. What is here is what a sample has to get right nevertheless:
passwords are hashed with Argon2id, of a session only the hash of its secret is kept, and every sign-in makes a new one.
"""

import asyncio
import hashlib
import re
import secrets
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from motor.motor_asyncio import AsyncIOMotorDatabase
from pymongo.errors import DuplicateKeyError

SESSION_LIFE: Final = timedelta(days=7)
MIN_PASSWORD_CHARACTERS: Final = 8
MAX_PASSWORD_CHARACTERS: Final = 200
MAX_NAME_CHARACTERS: Final = 64
_HASHES_AT_ONCE: Final = 2  # each takes 64 MiB for some 50 ms
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._+@-]*[a-z0-9])?")

Document = dict[str, Any]


class AccountRefusedError(Exception):
    """What was asked of the accounts cannot be; `reason` is stable, `field` names what to change."""

    def __init__(self, reason: str, message: str, field: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.field = field


class Accounts:
    """Signs users up and in, and knows their sessions."""

    def __init__(self, database: "AsyncIOMotorDatabase[Document]") -> None:
        self._users = database["users"]
        self._sessions = database["sessions"]
        self._hasher = PasswordHasher()
        self._hashing = asyncio.Semaphore(_HASHES_AT_ONCE)
        # Verified for names that nobody has, so that they take as long as others.
        self._nobodys_hash = self._hasher.hash(secrets.token_urlsafe(16))

    async def sign_up(self, name: str, password: str) -> str:
        """Makes a user and returns their uid, which is the name in its canonical form. Raises AccountRefusedError."""
        uid = uid_of(name)
        check_password(password)
        hashed = await self._in_thread(self._hasher.hash, password)
        try:
            await self._users.insert_one({"_id": uid, "password": hashed, "create_time": _now()})
        except DuplicateKeyError as error:
            raise AccountRefusedError(
                "NAME_TAKEN", f"{uid} is taken. Choose another name, or sign in.", "name"
            ) from error
        return uid

    async def sign_in(self, name: str, password: str) -> str | None:
        """Returns the uid if the password is right, else None, whether the name exists or not."""
        try:
            uid = uid_of(name)
        except AccountRefusedError:
            uid = ""
        user = await self._users.find_one({"_id": uid}) if uid else None
        hashed = self._nobodys_hash if user is None else str(user["password"])
        is_right = await self._in_thread(self._is_password, hashed, password[:MAX_PASSWORD_CHARACTERS])
        if user is None or not is_right or len(password) > MAX_PASSWORD_CHARACTERS:
            return None
        if self._hasher.check_needs_rehash(hashed):
            renewed = await self._in_thread(self._hasher.hash, password)
            await self._users.update_one({"_id": uid, "password": hashed}, {"$set": {"password": renewed}})
        return uid

    async def open_session(self, uid: str) -> str:
        """Returns the secret of a new session. Sessions of anybody that have ended are removed on the way."""
        secret = secrets.token_urlsafe(32)
        await self._sessions.delete_many({"expire_time": {"$lt": _now()}})
        await self._sessions.insert_one({"_id": _digest(secret), "uid": uid, "expire_time": _now() + SESSION_LIFE})
        return secret

    async def user_of(self, secret: str) -> str | None:
        """Returns whose session this is, None if it is nobody's or has ended."""
        session = await self._sessions.find_one({"_id": _digest(secret)})
        if session is None or session["expire_time"] <= _now():
            return None
        return str(session["uid"])

    async def close_session(self, secret: str) -> None:
        """Ends a session; one that does not exist is left so."""
        await self._sessions.delete_one({"_id": _digest(secret)})

    async def _in_thread(self, work: Any, *given: str) -> Any:
        async with self._hashing:
            return await asyncio.to_thread(work, *given)

    def _is_password(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False


def canonical(name: str) -> str:
    """Returns the one form of all ways to write a name."""
    return unicodedata.normalize("NFKC", name[: 4 * MAX_NAME_CHARACTERS]).strip().lower()


def uid_of(name: str) -> str:
    """Returns the canonical form of a name or e-mail address: the user's uid. Raises AccountRefusedError."""
    uid = canonical(name)
    if len(uid) > MAX_NAME_CHARACTERS or ".." in uid or not _NAME.fullmatch(uid):
        raise AccountRefusedError(
            "NAME_INVALID",
            f"A name has 1 to {MAX_NAME_CHARACTERS} letters a-z, digits, and . _ + @ - between them,"
            " as an e-mail address has.",
            "name",
        )
    return uid


def check_password(password: str) -> None:
    """Raises AccountRefusedError for a password that is too short or too long."""
    if len(password) < MIN_PASSWORD_CHARACTERS:
        raise AccountRefusedError(
            "PASSWORD_TOO_SHORT", f"A password has at least {MIN_PASSWORD_CHARACTERS} characters.", "password"
        )
    if len(password) > MAX_PASSWORD_CHARACTERS:
        raise AccountRefusedError(
            "PASSWORD_TOO_LONG", f"A password has at most {MAX_PASSWORD_CHARACTERS} characters.", "password"
        )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _now() -> datetime:
    return datetime.now(UTC)
