"""Service callers and scoped tokens: what each may do, and every way to ask for more that is refused."""

import asyncio
import base64
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.access.tokens import Issuer
from tests.log_events import logged
from tests.refusals import raises
from tests.uploads.samples import requested

from assetlane_server.access.callers import RPCS_OF_ONE_UPLOAD, ServiceAccess, TokenAccess, UserAccess
from assetlane_server.access.identity import TokenAuthenticator
from assetlane_server.access.keyring import Keyring
from assetlane_server.access.keys import keys_of_file
from assetlane_server.access.policy import Part, Pattern, Policy, PolicyFault, check_rpcs, pattern_of, policy_of
from assetlane_server.access.scoped import TOKEN_TYPE, ScopedTokens
from assetlane_server.access.watched import WatchedPolicy, WatchedRings
from assetlane_server.model.caller import CallerKind
from assetlane_server.model.errors import (
    InvalidRequest,
    NoSigningKey,
    RpcNotAllowed,
    ScopeTooWide,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    TokenRevoked,
    UidMismatch,
)
from assetlane_server.model.rings import Ring
from assetlane_server.model.scoped_tokens import PartitionScope
from assetlane_server.model.upload import Upload
from assetlane_server.ports.access import Access

POLICY = """\
read = ["user/{uid}"]
write = ["user/{uid}"]

[[service]]
name = "clinic"
subject = "clinic-backend"
users = ["patient-*", "ann"]
read = ["user/{uid}", "clinic/**"]
write = ["user/{uid}", "clinic/inbox"]

[[service]]
name = "lab"
claim = { azp = "lab", tier = "gold" }
users = ["*"]
read = ["lab/*"]
write = ["lab/*"]
rpcs = ["RequestUpload", "GetUpload"]

[[service]]
name = "scanner"
certificate = "scanner.example"
users = ["*"]
read = []
write = ["scans"]
"""
HOUR = timedelta(hours=1)


def upload_of(uid: str, partition: str) -> Upload:
    """Returns an upload of that user, for itself and its asset."""
    return replace(requested(), uid=uid, partition=partition, asset_partition=partition)


class AuthBench:
    """An authenticator with policy, rings and clock in hand."""

    def __init__(self, policy: str = POLICY) -> None:
        self.issuer = Issuer()
        self.text = policy
        self.ahead = timedelta(0)
        self.rings = {"clinic": Ring("clinic").with_key("k1", b"s" * 32, datetime(2020, 1, 1, tzinfo=UTC))}
        self.reads = 0
        self.policy = WatchedPolicy(lambda: policy_of(self.text), interval=HOUR)
        self.watched = WatchedRings(self, interval=HOUR)
        self.scoped = ScopedTokens(self.watched, self.policy.current, max_lifetime=24 * HOUR, now=self.now)

        async def read() -> bytes:
            return self.issuer.file

        keyring = Keyring(read, keys_of_file, interval=HOUR, clock=time.monotonic)
        self.tokens = TokenAuthenticator(
            keyring, self.policy, scoped=self.scoped, issuer=None, audience=None, leeway=timedelta(0), now=self.now
        )

    def now(self) -> datetime:
        """Returns the instant of the door's clock."""
        return datetime.now(UTC) + self.ahead

    async def read_rings(self) -> dict[str, Ring]:
        """See RingStore."""
        self.reads += 1
        return dict(self.rings)

    async def write_ring(self, ring: Ring) -> bool:
        """See RingStore."""
        self.rings[ring.name] = ring
        return True

    async def drop_ring(self, name: str) -> bool:
        """See RingStore."""
        return self.rings.pop(name, None) is not None

    async def access(self, token: str, *names: str) -> Access:
        """Returns what the sender of a token may do."""
        return await self.tokens.access_of(f"Bearer {token}", names)

    async def clinic(self) -> ServiceAccess:
        """Returns the clinic's back end."""
        await self.watched.look()
        access = await self.access(self.issuer.token("clinic-backend"))
        assert isinstance(access, ServiceAccess)
        return access

    async def change_policy(self, old: str, new: str) -> None:
        """Changes the policy as an operator does, and has it read."""
        assert old in self.text
        self.text = self.text.replace(old, new)
        await self.policy.look()


async def test_a_service_caller_is_known_by_subject_claim_or_certificate() -> None:
    """All that the policy names have to fit; a certificate alone stands for a caller without a token."""
    auth = AuthBench()
    assert (await auth.clinic()).name == "clinic"
    lab = await auth.access(auth.issuer.token("x", azp="lab", tier=["silver", "gold"]))
    assert isinstance(lab, ServiceAccess)
    assert lab.name == "lab"
    assert isinstance(await auth.access(auth.issuer.token("x", azp="lab")), UserAccess)
    scanner = await auth.tokens.access_of(None, ["localhost", "scanner.example"])
    assert isinstance(scanner, ServiceAccess)
    assert (scanner.name, scanner.expire_time, scanner.uid, scanner.actor) == ("scanner", None, None, "scanner")
    # The token that it passes on is somebody else's.
    assert isinstance(await auth.access(auth.issuer.token("ann"), "scanner.example"), UserAccess)
    with pytest.raises(TokenMissing):
        await auth.tokens.access_of(None, ["other.example"])
    with pytest.raises(TokenMissing):
        await auth.tokens.access_of(None)


async def test_a_service_that_names_subject_and_certificate_needs_both() -> None:
    """A stolen token is worth nothing over another connection, also after it was seen over the right one."""
    auth = AuthBench(
        POLICY.replace('subject = "clinic-backend"', 'subject = "clinic-backend"\ncertificate = "c.example"')
    )
    token = auth.issuer.token("clinic-backend")
    assert isinstance(await auth.access(token, "c.example"), ServiceAccess)
    assert isinstance(await auth.access(token), UserAccess)
    assert isinstance(await auth.access(token, "d.example"), UserAccess)
    assert isinstance(await auth.access(token, "c.example"), ServiceAccess)


async def test_a_service_caller_acts_for_its_users_in_its_partitions() -> None:
    """`{uid}` is any of its users until one is named, then that one alone."""
    clinic = await AuthBench().clinic()
    assert [clinic.acting_for(uid) is not None for uid in ("ann", "patient-7", "patient-", "anna", "bob", "", "*")] == [
        True, True, True, False, False, False, False,
    ]  # fmt: skip
    assert clinic.may_read("user/patient-7")
    assert not clinic.may_read("user/bob")
    acting = clinic.acting_for("ann")
    assert acting is not None
    assert (acting.may_write("user/ann"), acting.may_write("user/patient-7")) == (True, False)
    assert (acting.may_write("clinic/inbox"), acting.may_write("clinic/other")) == (True, False)
    ours, theirs = upload_of("ann", "user/ann"), upload_of("bob", "clinic/inbox")
    assert clinic.may_handle(ours)
    assert not clinic.may_handle(theirs)
    assert not clinic.may_handle(replace(ours, asset_partition="team/42"))


@pytest.mark.parametrize(
    ("old", "new", "reason", "subject"),
    [
        ('name = "clinic"', 'name = "Clinic"', "VALUE_INVALID", "name"),
        ('name = "lab"', 'name = "clinic"', "SERVICE_TWICE", "clinic"),
        ('subject = "clinic-backend"', 'subjekt = "x"', "KEY_UNKNOWN", "subjekt"),
        ('subject = "clinic-backend"\n', "", "SERVICE_WITHOUT_PROOF", ""),
        ('subject = "clinic-backend"', 'subject = ""', "VALUE_INVALID", "subject"),
        ('users = ["patient-*", "ann"]', "users = []", "VALUE_INVALID", "users"),
        ('users = ["patient-*", "ann"]', 'users = ["a*b"]', "VALUE_INVALID", "users"),
        ('users = ["patient-*", "ann"]\n', "", "KEY_MISSING", "users"),
        ('read = ["lab/*"]', 'read = ["{uid}/x"]', "FIRST_PART_OPEN", "{uid}/x"),
        ('read = ["lab/*"]', 'read = ["lab/{claim:x}"]', "CLAIM_IN_SERVICE", "read"),
        ('claim = { azp = "lab", tier = "gold" }', "claim = { azp = 7 }", "VALUE_INVALID", "claim"),
        ('rpcs = ["RequestUpload", "GetUpload"]', 'rpcs = ["GetUplaod"]', "RPC_UNKNOWN", "GetUplaod"),
        ("write = [\"lab/*\"]\n", "write = ['lab/*']\nmax_watches = 0\n", "VALUE_INVALID", "max_watches"),
        ("write = [\"lab/*\"]\n", "write = ['lab/*']\ncalls_per_second = true\n", "VALUE_INVALID", "calls_per_second"),
    ],
)  # fmt: skip
def test_a_policy_that_is_wrong_is_refused_with_the_fault(old: str, new: str, reason: str, subject: str) -> None:
    """Naming the service and what to write."""
    assert old in POLICY
    with raises(PolicyFault, reason=reason) as refused:
        check_rpcs(policy_of(POLICY.replace(old, new, 1)), {"RequestUpload", "GetUpload"})
    assert refused.value.subject == subject


async def test_a_token_for_partitions_opens_those_alone() -> None:
    """For its user, within its maker's rights, and it makes no other."""
    auth = AuthBench()
    scope = PartitionScope(("user/{uid}", "clinic/reports/**"), ("clinic/inbox",))
    issued = auth.scoped.for_partitions("patient-7", scope, timedelta(minutes=5), await auth.clinic())
    assert timedelta(minutes=4) < issued.expire_time - auth.now() <= timedelta(minutes=5)
    device = await auth.access(issued.token)
    assert isinstance(device, TokenAccess)
    assert (device.uid, device.actor, device.caller, device.kind) == (
        "patient-7", "token:clinic", "uid:patient-7", CallerKind.TOKEN,
    )  # fmt: skip
    reads = ("user/patient-7", "clinic/reports/1", "clinic/reports", "clinic/inbox", "user/ann")
    assert [device.may_read(one) for one in reads] == [True, True, False, False, False]
    assert [device.may_write(one) for one in reads] == [False, False, False, True, False]
    assert device.acting_for("ann") is None
    with pytest.raises(RpcNotAllowed):
        device.check("CreateToken")
    with pytest.raises(RpcNotAllowed):
        auth.scoped.for_partitions("patient-7", scope, None, device)
    auth.ahead = timedelta(minutes=6)
    with pytest.raises(TokenExpired):
        await auth.access(issued.token)


@pytest.mark.parametrize("ahead", [timedelta(minutes=-20), timedelta(minutes=20)])
async def test_a_token_of_a_server_whose_clock_is_off_ends_when_it_says(ahead: timedelta) -> None:
    """Nobody looks at when it was made: each server compares the token's end with its own clock."""
    auth = AuthBench()
    clinic = await auth.clinic()
    auth.ahead = ahead
    issued = auth.scoped.for_partitions("ann", PartitionScope(("user/{uid}",), ()), HOUR, clinic)
    auth.ahead = timedelta(0)
    assert (await auth.access(issued.token)).uid == "ann"
    auth.ahead = HOUR + ahead - timedelta(seconds=5)
    assert (await auth.access(issued.token)).uid == "ann"
    auth.ahead = HOUR + ahead + timedelta(seconds=5)
    with pytest.raises(TokenExpired):
        await auth.access(issued.token)


async def test_a_token_for_an_upload_opens_that_alone() -> None:
    """Until its deadline, whatever lifetime is asked for."""
    auth = AuthBench()
    clinic = await auth.clinic()
    upload = replace(upload_of("ann", "user/ann"), expire_time=auth.now() + HOUR)
    issued = auth.scoped.for_upload(upload, timedelta(hours=20), clinic)
    assert abs(issued.expire_time - upload.expire_time) < timedelta(seconds=1)
    device = await auth.access(issued.token)
    assert device.may_handle(upload)
    assert not device.may_handle(replace(upload, upload_id="0" * 26))
    assert not device.may_read("user/ann")
    assert not device.may_write("user/ann")
    for rpc in RPCS_OF_ONE_UPLOAD:
        device.check(rpc)
    for rpc in ("RequestUpload", "ListUploads", "GetAsset", "ListAssets", "DeleteAsset", "CreateToken"):
        with pytest.raises(RpcNotAllowed):
            device.check(rpc)


@pytest.mark.parametrize(
    ("scope", "error"),
    [
        (PartitionScope(("user/*",), ()), ScopeTooWide),
        (PartitionScope(("user/ann",), ()), ScopeTooWide),
        (PartitionScope(("**",), ()), ScopeTooWide),
        (PartitionScope(("clinic/*",), ("clinic/*",)), ScopeTooWide),
        (PartitionScope((), ("clinic/inbox/x",)), ScopeTooWide),
        (PartitionScope((), ()), InvalidRequest),
        (PartitionScope(("a//b",), ()), InvalidRequest),
        (PartitionScope(("{uid}",), ()), InvalidRequest),
        (PartitionScope(("clinic/{claim:team}",), ()), InvalidRequest),
        (PartitionScope(("",), ()), InvalidRequest),
        (PartitionScope(("clinic/a*",), ()), InvalidRequest),
        (PartitionScope(("clinic/..",), ()), InvalidRequest),
        (PartitionScope(("clinic/x",) * 33, ()), InvalidRequest),
    ],
)
async def test_a_scope_beyond_the_makers_is_refused(scope: PartitionScope, error: type[Exception]) -> None:
    """When it is asked for, naming the pattern."""
    auth = AuthBench()
    with pytest.raises(error):
        auth.scoped.for_partitions("patient-7", scope, None, await auth.clinic())


async def test_lifetimes_out_of_range_a_foreign_user_and_a_missing_ring_are_refused() -> None:
    """Each with its own reason."""
    auth = AuthBench()
    clinic, scope = await auth.clinic(), PartitionScope(("user/{uid}",), ())
    for lifetime in (timedelta(0), timedelta(seconds=1), timedelta(seconds=-5), timedelta(days=8)):
        with raises(InvalidRequest, field="lifetime"):
            auth.scoped.check(lifetime, clinic, field="lifetime")
        with raises(InvalidRequest, field="lifetime"):
            auth.scoped.for_partitions("ann", scope, lifetime, clinic)
    with pytest.raises(UidMismatch):
        auth.scoped.for_partitions("bob", scope, None, clinic)
    del auth.rings["clinic"]
    await auth.watched.look()
    with raises(NoSigningKey, reason="NO_SIGNING_KEY", names=["clinic"]):
        auth.scoped.check(None, clinic, field="lifetime")


async def test_each_use_is_checked_against_what_the_maker_may_do_now() -> None:
    """Also of a token that was verified before: rights, users and the maker itself can go."""
    auth = AuthBench()
    scope = PartitionScope(("clinic/x",), ("clinic/inbox",))
    device = await auth.access(auth.scoped.for_partitions("ann", scope, None, await auth.clinic()).token)
    assert device.may_read("clinic/x")
    await auth.change_policy('"clinic/**"', '"clinic/y"')
    assert not device.may_read("clinic/x")
    assert device.may_write("clinic/inbox")
    await auth.change_policy('"patient-*", "ann"', '"patient-*"')
    with pytest.raises(TokenRevoked):
        device.check("GetUpload")


async def test_a_dropped_ring_revokes_its_callers_tokens_and_nobody_elses() -> None:
    """Those that were verified before as well, and watches that are open."""
    auth = AuthBench(POLICY + '\n[[service]]\nname = "other"\nsubject = "o"\nusers = ["*"]\nread = ["x"]\nwrite = []\n')
    auth.rings["other"] = Ring("other").with_key("k1", b"t" * 32, datetime(2020, 1, 1, tzinfo=UTC))
    scope = PartitionScope(("user/{uid}",), ())
    mine = auth.scoped.for_partitions("ann", scope, None, await auth.clinic()).token
    other = await auth.access(auth.issuer.token("o"))
    theirs = auth.scoped.for_partitions("ann", PartitionScope(("x",), ()), None, other).token
    device = await auth.access(mine)
    await auth.access(theirs)
    await auth.drop_ring("clinic")
    await auth.watched.look()
    with pytest.raises(TokenInvalid):
        await auth.access(mine)
    with pytest.raises(TokenRevoked):
        device.check("GetUpload")
    assert (await auth.access(theirs)).may_read("x")


async def test_keys_are_rotated_without_a_refused_token() -> None:
    """A new key verifies before it signs, a retired one verifies what it has signed."""
    auth = AuthBench()
    clinic, scope = await auth.clinic(), PartitionScope(("user/{uid}",), ())
    old = auth.scoped.for_partitions("ann", scope, None, clinic).token
    auth.rings["clinic"] = auth.rings["clinic"].with_key("k2", b"u" * 32, auth.now())
    await auth.watched.look()
    still_old = auth.scoped.for_partitions("ann", scope, None, clinic).token
    auth.ahead = timedelta(seconds=31)
    new = auth.scoped.for_partitions("ann", scope, None, clinic).token
    kids = [jwt.get_unverified_header(token)["kid"] for token in (old, still_old, new)]
    assert kids == ["clinic/k1", "clinic/k1", "clinic/k2"]
    auth.rings["clinic"] = auth.rings["clinic"].retired("k1", auth.now())
    await auth.watched.look()
    for token in (old, still_old, new):
        assert (await auth.access(token)).uid == "ann"
    auth.rings["clinic"] = auth.rings["clinic"].dropped("k1")
    await auth.watched.look()
    with pytest.raises(TokenInvalid):
        await auth.access(old)
    assert (await auth.access(new)).uid == "ann"


def forged(secret: bytes | None = b"s" * 32, *, kid: str = "clinic/k1", algorithm: str = "HS256", **claims: Any) -> str:
    """Returns a token as somebody would make one who knows some of it."""
    payload = {"sub": "ann", "act": {"sub": "clinic"}, "exp": int(time.time()) + 600, "read": ["user/ann"], **claims}
    payload = {name: value for name, value in payload.items() if value is not None}
    key: Any = secret
    return jwt.encode(payload, key, algorithm, headers={"kid": kid, "typ": TOKEN_TYPE})


@pytest.mark.parametrize(
    "token",
    [
        forged(b"another secret of at least 32 bytes"),
        forged(kid="clinic/k2"),
        forged(kid="nobody/k1"),
        forged(kid=""),
        forged(act={"sub": "lab"}),
        forged(act=None),
        forged(act="clinic"),
        forged(exp=None),
        forged(exp="tomorrow"),
        forged(exp=True),
        forged(exp=10**30),
        forged(sub=""),
        forged(sub=["ann"]),
        forged(read=None),
        forged(upload="x" * 26),
        forged(read=None, upload=7),
        forged(read="user/ann"),
        forged(read=[7]),
        forged(read=["a//b"]),
        forged(None, algorithm="none"),
        forged(b"s" * 64, algorithm="HS512"),
    ],
)
async def test_a_forged_token_is_refused(token: str) -> None:
    """Whatever of it is right."""
    auth = AuthBench()
    await auth.clinic()
    with pytest.raises((TokenInvalid, TokenRevoked)):
        await auth.access(token)


async def test_a_key_of_one_kind_verifies_no_token_of_the_other() -> None:
    """Neither do the issuer's keys make scoped tokens, nor the rings' keys a user."""
    auth = AuthBench()
    await auth.clinic()
    with pytest.raises(TokenInvalid):
        await auth.access(jwt.encode({"sub": "ann", "exp": time.time() + 60}, b"s" * 32, "HS256", {"kid": "clinic/k1"}))
    header = {"typ": TOKEN_TYPE, "kid": "clinic/k1"}
    claims = {"sub": "ann", "act": {"sub": "clinic"}, "exp": int(time.time()) + 60, "read": ["user/ann"]}
    with pytest.raises(TokenInvalid):
        await auth.access(jwt.encode(claims, auth.issuer.key, auth.issuer.algorithm, header))


@given(st.data())
def test_every_changed_character_makes_a_token_worthless(data: st.DataObject) -> None:
    """Wherever it is, unless it decodes to the same bytes."""

    async def work() -> None:
        auth = AuthBench()
        scope = PartitionScope(("user/{uid}",), ())
        token = auth.scoped.for_partitions("ann", scope, None, await auth.clinic()).token
        at = data.draw(st.integers(0, len(token) - 1))
        letter = data.draw(st.sampled_from("ABCxyz019-_."))
        changed = token[:at] + letter + token[at + 1 :]
        if _decoded(changed) == _decoded(token):
            return
        with pytest.raises((TokenInvalid, TokenExpired)):
            await auth.access(changed)

    asyncio.run(work())


def _decoded(token: str) -> list[bytes]:
    with suppress(ValueError):
        return [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")]
    return []


async def test_to_verify_a_token_reads_no_rings() -> None:
    """Only a key that no ring has is looked for, at most once a second."""
    auth = AuthBench()
    clinic = await auth.clinic()
    token = auth.scoped.for_partitions("ann", PartitionScope(("user/{uid}",), ()), None, clinic).token
    reads = auth.reads
    for _ in range(100):
        await auth.access(token)
    assert auth.reads == reads
    for number in range(100):
        with pytest.raises(TokenInvalid):
            await auth.access(forged(kid=f"clinic/made-up-{number}"))
    assert auth.reads <= reads + 2


_NAMES = st.sampled_from(["a", "b", "*"])
_PATTERNS = st.builds(
    lambda names, rest: "/".join([*names, *(["**"] if rest else [])]),
    st.lists(_NAMES, min_size=1, max_size=3),
    st.booleans(),
)


@given(_PATTERNS, _PATTERNS)
def test_a_pattern_covers_another_exactly_if_it_matches_whatever_that_does(wide: str, narrow: str) -> None:
    """Compared with all partitions of up to five parts, of two known names and a third that no pattern has."""
    nobody = UserAccess("x", {}, None, lambda: Policy((), ()))
    partitions: list[list[str]] = [[]]
    found = []
    for _ in range(5):
        partitions = [[*names, name] for names in partitions for name in ("a", "b", "c")]
        found += ["/".join(names) for names in partitions]
    outer, inner = pattern_of(wide), pattern_of(narrow)
    is_within = all(outer.matches(one, nobody) for one in found if inner.matches(one, nobody))
    assert outer.covers(inner) is is_within


def test_a_users_name_is_no_pattern() -> None:
    """`*` as a uid opens nothing but its own."""
    pattern = pattern_of("user/{uid}").of_user("*")
    assert pattern == Pattern((Part(text="user"), Part(text="*")), has_rest=False)
    assert not pattern.covers(pattern_of("user/*"))
    assert not pattern.matches("user/ann", UserAccess("x", {}, None, lambda: Policy((), ())))


async def test_a_policy_that_becomes_wrong_changes_nothing_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The one before stays."""
    auth = AuthBench()
    clinic = await auth.clinic()
    good, auth.text = auth.text, "read = ["
    for _ in range(3):
        await auth.policy.look()
    assert clinic.may_read("clinic/x")
    assert len(logged(caplog, "POLICY_REFUSED")) == 1
    auth.text = good.replace('"clinic/**"', '"clinic/y"')
    await auth.policy.look()
    assert not clinic.may_read("clinic/x")


async def test_a_service_that_the_policy_means_another_caller_by_is_gone() -> None:
    """Also for a watch that its former caller holds open."""
    auth = AuthBench()
    clinic = await auth.clinic()
    await auth.change_policy('subject = "clinic-backend"', 'subject = "another-backend"')
    for ask in (
        lambda: clinic.check("GetUpload"),
        lambda: clinic.may_read("clinic/x"),
        lambda: clinic.acting_for("ann"),
    ):
        with pytest.raises(TokenRevoked):
            ask()
    assert isinstance(await auth.access(auth.issuer.token("clinic-backend")), UserAccess)


async def test_a_ring_that_becomes_damaged_keeps_its_keys_and_hinders_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Logged once. Another ring that is dropped meanwhile is gone, and so is the damaged one when it is dropped."""
    auth = AuthBench(POLICY + '\n[[service]]\nname = "other"\nsubject = "o"\nusers = ["*"]\nread = ["x"]\nwrite = []\n')
    auth.rings["other"] = Ring("other").with_key("k1", b"t" * 32, datetime(2020, 1, 1, tzinfo=UTC))
    mine = auth.scoped.for_partitions("ann", PartitionScope(("user/{uid}",), ()), None, await auth.clinic()).token
    other = await auth.access(auth.issuer.token("o"))
    theirs = auth.scoped.for_partitions("ann", PartitionScope(("x",), ()), None, other).token
    auth.rings["clinic"] = Ring("clinic", fault="ring clinic: this is not a ring of keys")
    await auth.drop_ring("other")
    for _ in range(3):
        await auth.watched.look()
    assert (await auth.access(mine)).uid == "ann"
    with pytest.raises(TokenInvalid):
        await auth.access(theirs)
    assert len(logged(caplog, "RING_REFUSED")) == 1
    await auth.drop_ring("clinic")
    await auth.watched.look()
    with pytest.raises(TokenInvalid):
        await auth.access(mine)


async def test_without_keys_of_an_issuer_certificates_and_scoped_tokens_remain() -> None:
    """A token of somebody else's making is refused, whatever it says."""
    auth = AuthBench()
    token = auth.scoped.for_partitions("ann", PartitionScope(("user/{uid}",), ()), None, await auth.clinic()).token
    tokens = TokenAuthenticator(
        None, auth.policy, scoped=auth.scoped, issuer=None, audience=None, leeway=timedelta(0), now=auth.now
    )
    scanner = await tokens.access_of(None, ["scanner.example"])
    assert isinstance(scanner, ServiceAccess)
    assert (await tokens.access_of(f"Bearer {token}")).uid == "ann"
    for refused in (auth.issuer.token("ann"), auth.issuer.token("clinic-backend")):
        with pytest.raises(TokenInvalid):
            await tokens.access_of(f"Bearer {refused}", ["scanner.example"])
    with pytest.raises(TokenMissing):
        await tokens.access_of(None, ["other.example"])


def test_the_policy_of_the_documentation_is_a_policy() -> None:
    """The module's own example."""
    import assetlane_server.access.policy as module

    lines = (module.__doc__ or "").splitlines()
    begin = next(index for index, line in enumerate(lines) if "[[service]]" in line)
    text = "read = []\nwrite = []\n" + "\n".join(line.strip() for line in lines[begin:] if line.startswith("    "))
    assert policy_of(text).services[0].name == "clinic"
