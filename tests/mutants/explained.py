"""Mutants that need a word: those that are not caught, and those that were no fault and made room for others."""

from typing import Final

# Not caught: what makes it harmless, or where else it is tested.
EXPLAINED: Final[dict[str, str]] = {
    "a-token-moves-on-too-early": (
        "not in 9,000 schedules either; "
        "test_no_token_says_that_changes_were_sent_that_wait_together_with_its_own finds it"
    ),
    "read-first-then-registered": "schedule 2,604 finds it, one of the 30,000 of `make test-simulation`",
}

# No promise was broken by these, so nothing could catch them. Each made room for a change that does break one.
REPLACED: Final[dict[str, tuple[str, str]]] = {  # name: what made it harmless, and the mutant in its place
    "a-deleted-asset-is-purged-too-early, without a look at the purge time": (
        "the record comes up at its purge time, and at no time before: the look only repeats it",
        "a-deleted-asset-is-purged-too-early",
    ),
    "a-renewal-goes-back": (
        "the ledger keeps the later instants itself ($lte and $max), and a URL signed earlier has the same end",
        "a-renewal-is-not-written",
    ),
    "an-older-state-replaces-a-newer": (
        "the hub reads one batch after the other, so an older state never comes second",
        "a-newer-state-does-not-replace-an-older",
    ),
}
