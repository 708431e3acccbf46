"""Why a mutant is not caught: each one is looked at, and tested elsewhere or no fault at all."""

from typing import Final

EXPLAINED: Final[dict[str, str]] = {
    "a-deleted-asset-is-purged-too-early": "its sweep comes at the purge time; earlier only by a clock that is ahead",
    "a-document-twice-in-a-batch": "each update is conditional on its revision: the second is lost and tried again",
    "one-document-in-two-batches": "as above: it costs a round, and no outcome is wrong",
    "a-lease-is-taken-from-another": "two sweepers do the same work, and all of it may be done twice",
    "a-renewal-goes-back": "the update of the ledger is conditional on the instant that is stored",
    "an-older-state-replaces-a-newer": "the hub reads one batch after the other: an older state never comes second",
    "delivered-before-it-is-read": "a resumed watch reads the minute before its position again",
    "the-loser-leaves-its-multiparts-open": "the sweeper aborts them a day later",
    "uploaded-is-not-written-before-long-work": "watchers see it later; the sweep goes on with it all the same",
}
