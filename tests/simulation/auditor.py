"""What must hold at every step, checked where something changes: documents, objects, and what callers are sent.

A violation is noted here and ends the schedule after the step. It is not raised where it is found: the code under test
would catch it.
"""

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tests.simulation.mongo import Document
from tests.simulation.store import SimObject

from assetlane_server.access.quotas import Quotas
from assetlane_server.model.state_table import FINAL, NEXT
from assetlane_server.model.upload import DELETED_KEPT_FOR, Asset, Upload

MOST_WRITES_A_SECOND: Final = 400  # of all servers together; more is a loop that nobody waits in
# Of uploads whose clients did what they promised, or sent a header more.
_REASONS: Final = frozenset({"ABANDONED", "HEADER_NOT_PROMISED", "IMAGE_BROKEN", "CUTTING_TIMED_OUT"})
_MILLISECOND: Final = timedelta(milliseconds=1)
_KEPT_UNKNOWN: Final = "of_a_newer_version"


class Auditor:
    """Follows every document and object from one state to the next."""

    def __init__(self, quotas: Quotas, clock: Callable[[], float], utc: Callable[[], datetime]) -> None:
        self.violations: list[str] = []
        self.broken = ""  # where the first invariant that does not hold is checked: one place, one invariant
        self.situations: Counter[str] = Counter()
        self.uploads: Mapping[str, Document] = {}
        self.objects: Mapping[str, SimObject] = {}
        self.lines: list[str] | None = None  # what happened, for people; None: nobody reads it
        self._quotas = quotas
        self._clock = clock
        self._utc = utc
        self._second = -1
        self._writes = 0
        self._open_of: Counter[str] = Counter()  # uploads that have not ended, by owner
        self.owned: dict[str, str] = {}  # keys of assets that are there, with their ids
        self._histories: dict[str, list[Any]] = {}  # of every upload that ever was, for what watchers are sent
        # Every revision of an asset, whether it was deleted, and as of when its URLs are signed.
        self._assets: dict[str, list[tuple[int, bool, datetime]]] = {}
        self.on_write: Callable[[], None] = lambda: None
        self._once: list[tuple[Callable[[Document], bool], Callable[[], None]]] = []
        self._leases: set[tuple[str, Any, Any]] = set()  # ids, when the sweep was, and when it is

    def reach(self, situation: str) -> None:
        """See Observer."""
        self.situations[situation] += 1

    def note(self, line: str) -> None:
        """Notes what happened, where somebody reads it."""
        if self.lines is not None:
            self.lines.append(f"{self._clock():10.3f}  {self._utc():%d %H:%M:%S}  {line}")

    def fail(self, what: str) -> None:
        """Notes a violation."""
        self._violated(what)

    def assert_holds(self) -> None:
        """Ends the schedule at the first violation."""
        assert not self.violations, self.violations[0]

    def check(self, holds: bool, what: str) -> None:
        """Notes a violation unless it holds."""
        if not holds:
            self._violated(what)

    def _violated(self, what: str) -> None:
        if not self.violations:
            checking = sys._getframe(2)
            self.broken = f"{Path(checking.f_code.co_filename).name}:{checking.f_lineno}"
        self.violations.append(what)

    def once(self, is_it: Callable[[Document], bool], act: Callable[[], None]) -> None:
        """Has something done when an upload is written as described, at that instant and once."""
        self._once.append((is_it, act))

    # Documents

    def document_changed(self, collection: str, before: Document | None, after: Document | None) -> None:
        """See mongo.Auditor."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._writes = second, 0
        self._writes += 1
        self.check(self._writes <= MOST_WRITES_A_SECOND, "more writes in a second than anybody has work for: it spins")
        if self.lines is not None:
            self.note(f"{collection}: {_difference(before, after)}")
        self.on_write()
        if collection == "uploads" and after is not None and self._once:
            for one in [one for one in self._once if one[0](after)]:
                self._once.remove(one)
                one[1]()
        if collection == "uploads":
            self._upload_changed(before, after)
        elif collection == "quotas" and after is not None:
            self._account_changed(after)

    def _upload_changed(self, before: Document | None, after: Document | None) -> None:
        if after is None:
            assert before is not None
            self._upload_removed(before)
            return
        upload_id = after["_id"]
        history, known = after["history"], [] if before is None else before["history"]
        self.check(history[: len(known)] == known, f"{upload_id}: its history was rewritten")
        self.check(
            [entry["revision"] for entry in history] == list(range(1, len(history) + 1)),
            f"{upload_id}: its revisions are not one after the other",
        )
        status = after["status"]
        last = history[-1]
        self.check((last["status"], last["revision"]) == (status, after["revision"]), f"{upload_id}: state and history")
        for earlier, entry in zip(history[max(0, len(known) - 1) :], history[max(1, len(known)) :], strict=False):
            is_newer = "HELD" in (earlier["status"], entry["status"])  # a newer version's
            self.check(
                is_newer or entry["status"] in NEXT.get(earlier["status"], ()),
                f"{upload_id}: {earlier['status']} became {entry['status']}",
            )
            self.check(entry["time"] >= earlier["time"], f"{upload_id}: its history runs backwards")
        self.check(
            ("asset" in after) == (status == "COMPLETED"), f"{upload_id}: {status}, and its asset does not fit that"
        )
        if before is not None:
            self._fields_kept(upload_id, before, after)
            self._leases.add((upload_id, before.get("sweep_time"), after.get("sweep_time")))
        if len(history) > len(known):
            added = [entry["status"] for entry in history[len(known) :]]
            self.check(
                "cut_plan" not in after or added[-2:] != ["UPLOADED", "COMPLETED"],
                f"{upload_id}: its cuts were made before it was UPLOADED",
            )
            self._check_end(after)
            self._histories[upload_id] = [(entry["revision"], entry["status"]) for entry in history]
            self._count_open(before, after)
        if "asset" in after:
            self._asset_changed(before, after)

    def _fields_kept(self, upload_id: str, before: Document, after: Document) -> None:
        for name in ("uid", "partition", "asset_partition", "session_id", "request_key", "request_sha256"):
            self.check(before.get(name) == after.get(name), f"{upload_id}: {name} changed")
        if _KEPT_UNKNOWN in before:
            self.reach("a record kept what a newer version wrote")
            self.check(before[_KEPT_UNKNOWN] == after.get(_KEPT_UNKNOWN), f"{upload_id}: an unknown field was lost")
        for name in ("targets_expire_time", "targets_signed_at"):
            if name in before:
                self.check(name in after and after[name] >= before[name], f"{upload_id}: {name} went back")
        if before.get("targets_signed_at") != after.get("targets_signed_at"):
            is_open = before["status"] in ("PENDING", "INITIALIZED")
            self.check(is_open, f"{upload_id}: its targets were renewed while it was {before['status']}")

    def _check_end(self, after: Document) -> None:
        """An upload ends for a reason."""
        upload_id, status, last = after["_id"], after["status"], after["history"][-1]
        if status == "EXPIRED":
            is_late = self._utc() >= after["expire_time"] - _SLACK
            self.check(is_late, f"{upload_id}: expired before its deadline")
        elif status == "FAILED" and last.get("reason") is not None:
            is_multipart = any("part_size_bytes" in variant for variant in after["variants"])
            reasons = _REASONS | ({"VARIANT_LOST", "PARTS_REFUSED"} if is_multipart else set())
            self.check(last["reason"] in reasons, f"{upload_id}: FAILED with {last['reason']}, which nobody caused")

    def lease_taken(self, upload_id: str, before: datetime | None, after: datetime | None) -> None:
        """A sweeper learned that it has an upload, which it had seen with that sweep time."""
        is_its = (upload_id, before, _in_milliseconds(after)) in self._leases
        self.check(is_its, f"{upload_id}: a sweeper took it from another")

    def parts_put_together(self, key: str) -> None:
        """Is called before the parts of an object are put together."""
        for upload_id, document in self.uploads.items():
            if f"/{upload_id}/" in key:
                self.check(document["status"] != "INITIALIZED", f"{upload_id}: put together before it was UPLOADED")

    def multipart_aborted(self, multipart_id: str) -> None:
        """Is called before a multipart upload is aborted."""
        for document in self.uploads.values():
            if document["status"] == "INITIALIZED" and multipart_id in document.get("multipart_ids", {}).values():
                self.fail(f"{document['_id']}: its multipart upload was aborted while parts are sent")

    def _count_open(self, before: Document | None, after: Document) -> None:
        was_open = before is not None and before["status"] not in FINAL
        is_open = after["status"] not in FINAL
        uid = after["uid"]
        self._open_of[uid] += is_open - was_open
        quota = self._quotas.of_uid
        if is_open and not was_open and quota is not None:
            self.check(self._open_of[uid] <= quota.max_uploads, f"{uid} has more uploads open than the quota allows")

    def _asset_changed(self, before: Document | None, after: Document) -> None:
        upload_id, asset = after["_id"], after["asset"]
        known = {} if before is None else before.get("asset", {})
        is_deleted = "delete_time" in asset
        self.check(("listed_in" in after) == (not is_deleted), f"{upload_id}: listed, and deleted or not")
        keys = [variant["key"] for variant in asset["variants"]]
        if not known:
            self._assets[upload_id] = [(asset["revision"], is_deleted, asset["refresh_time"])]
            for variant in asset["variants"]:
                stored = self.objects.get(variant["key"])
                self.check(stored is not None, f"{upload_id}: COMPLETED, and {variant['key']} is not in the store")
                self.check(
                    stored is None
                    or (stored.body.size_bytes, stored.etag, stored.foreign_headers)
                    == (variant["size_bytes"], variant["etag"], ()),
                    f"{upload_id}: COMPLETED, and {variant['key']} is another object",
                )
                self.owned[variant["key"]] = upload_id
            promised = {variant["name"] for variant in after["variants"]}
            there = {variant["name"] for variant in asset["variants"]}
            self.check(promised <= there, f"{upload_id}: COMPLETED without {promised - there}")
            return
        if asset["revision"] == known["revision"]:
            is_same = asset.get("change_ids") == known.get("change_ids")
            self.check(is_same, f"{upload_id}: its asset changed twice with one revision")
        else:
            self.check(asset["revision"] == known["revision"] + 1, f"{upload_id}: its asset skipped a revision")
            self.check("delete_time" not in known, f"{upload_id}: its deleted asset changed")
            self.check(
                after["asset_route"]["revision"] == asset["revision"],
                f"{upload_id}: its asset_route is not its asset's",
            )
            self.check(asset["refresh_time"] >= known["refresh_time"], f"{upload_id}: its refresh time went back")
            self._assets[upload_id].append((asset["revision"], is_deleted, asset["refresh_time"]))
            if is_deleted:
                for key in keys:
                    self.owned.pop(key, None)
                self.check(
                    "details" not in after and "details" not in asset, f"{upload_id}: deleted, and words are left"
                )

    def _upload_removed(self, before: Document) -> None:
        upload_id = before["_id"]
        now = self._utc()
        self.reach("a record was removed")
        self.check(before["status"] in FINAL, f"{upload_id}: removed while it is {before['status']}")
        if "asset" in before:
            deleted = before["asset"].get("delete_time")
            self.check(
                deleted is not None and now >= deleted + DELETED_KEPT_FOR - _SLACK,
                f"{upload_id}: removed, and its asset may be asked for",
            )
        else:
            self.check(
                now >= before["history"][-1]["time"] + timedelta(seconds=before["kept_for_s"]) - _SLACK,
                f"{upload_id}: removed before its time",
            )

    def _account_changed(self, account: Document) -> None:
        claims = account.get("claims", {})
        name = account["_id"]
        self.check(account["open_uploads"] == len(claims), f"{name}: its sum of uploads is not that of its claims")
        self.check(
            account["open_bytes"] == sum(claim["size_bytes"] for claim in claims.values()),
            f"{name}: its sum of bytes is not that of its claims",
        )
        quota = self._quotas.of_uid if name.startswith("uid:") else self._quotas.of_partition
        if quota is not None:
            self.check(account["open_uploads"] <= quota.max_uploads, f"{name}: more claims than its quota")
            self.check(
                quota.max_bytes is None or account["open_bytes"] <= quota.max_bytes,
                f"{name}: more bytes than its quota",
            )

    # Objects

    def object_deleted(self, key: str) -> None:
        """See store.Auditor."""
        if (upload_id := self.owned.get(key)) is not None:
            self.fail(f"{upload_id}: {key} of its asset was deleted")

    # What callers are sent

    def acknowledged(self, upload: Upload) -> None:
        """A caller was sent an upload with this status."""
        document = self.uploads.get(upload.upload_id)
        if document is None:
            self.fail(f"{upload.upload_id}: a caller was sent {upload.status}, and there is no record")
            return
        answered = [(change.revision, change.status.value) for change in upload.history]
        stored = [(entry["revision"], entry["status"]) for entry in document["history"]]
        self.check(
            [one for one in stored if one in answered] == answered,
            f"{upload.upload_id}: a caller was sent {answered}, not {stored}",
        )
        self.check((upload.asset is not None) == (upload.status == "COMPLETED"), f"{upload.upload_id}: asset or not")
        if upload.targets_expire_time is not None:
            self.check(
                document["targets_expire_time"] >= upload.targets_expire_time - _MILLISECOND,
                f"{upload.upload_id}: URLs were handed out that live longer than its record says",
            )

    def acknowledged_asset(self, asset: Asset) -> None:
        """A caller was sent an asset with this revision."""
        known = self._assets.get(asset.asset_id, [])
        self.check(
            (asset.revision, asset.is_deleted, asset.refresh_time) in known,
            f"{asset.asset_id}: a caller was sent asset revision {asset.revision}, there are {known}",
        )

    def statuses(self, upload_id: str) -> list[tuple[int, str]]:
        """Returns every revision of an upload that this version knows, with its status."""
        return [one for one in self._histories.get(upload_id, []) if one[1] in NEXT or one[1] in FINAL]


def _in_milliseconds(instant: datetime | None) -> datetime | None:
    return None if instant is None else instant.replace(microsecond=instant.microsecond // 1000 * 1000)


_SLACK = timedelta(hours=3)  # the clock of the server that removes may be so far ahead


def _difference(before: Document | None, after: Document | None) -> str:
    if before is None or after is None:
        return f"{(before or after or {})['_id']} {'is new' if before is None else 'is removed'}"
    names = [name for name in {**before, **after} if name != "_id" and before.get(name) != after.get(name)]
    change = {name: after.get(name) if name != "history" else after["history"][-1]["status"] for name in names}
    return f"{after['_id']} {change}"
