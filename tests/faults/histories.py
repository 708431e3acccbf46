"""What happened to every upload, as MongoDB has it, and what each watcher owes to it."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tests.faults.plan import WatcherPlan
from tests.faults.verdict import Sighting, Verdict, judge
from tests.records.stores import mongo


class Histories:
    """The histories of all uploads of a database; `upload_ids` says which upload of the plan is which."""

    def __init__(self, documents: Sequence[Mapping[str, Any]], upload_ids: Sequence[str]) -> None:
        self._upload_ids = upload_ids
        self._all: dict[str, tuple[str, ...]] = {}
        self._sessions: defaultdict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
        for document in documents:
            statuses = tuple(change["status"] for change in document["history"])
            assert [change["revision"] for change in document["history"]] == list(range(1, len(statuses) + 1))
            self._all[document["_id"]] = self._sessions[document["session_id"]][document["_id"]] = statuses
        self.ends = Counter(statuses[-1] for statuses in self._all.values())

    @classmethod
    async def of(cls, mongo_uri: str, database_name: str, upload_ids: Sequence[str]) -> "Histories":
        """Reads them."""
        async with mongo(mongo_uri) as client:
            uploads = client[database_name]["uploads"]
            return cls(await uploads.find({}, {"history": 1, "session_id": 1}).to_list(None), upload_ids)

    def owed(self, plan: WatcherPlan) -> int:
        """Returns how many events a watcher has to see."""
        return sum(len(statuses) for statuses in self._due(plan).values()) - plan.after_revision

    def verdict(self, plan: WatcherPlan, seen: Sequence[Sighting]) -> Verdict:
        """Judges a watcher's record."""
        due = self._due(plan)
        return judge(seen, due, dict.fromkeys(due, plan.after_revision))

    def _due(self, plan: WatcherPlan) -> Mapping[str, tuple[str, ...]]:
        if plan.upload is None:
            return self._sessions[plan.session_id]
        upload_id = self._upload_ids[plan.upload]
        return {upload_id: self._all[upload_id]}
