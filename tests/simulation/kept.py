"""What the simulation has found, and where: each of these scenes is run first, in every run.

The number of a schedule means another one as soon as the code changes. So what is kept of a finding is the scene that
leads to it: tests/mutants/test_kept.py reverts each fix and has the scene find it again.
"""

from dataclasses import dataclass
from typing import Final

SCHEDULES_KEPT: Final = 100  # of each scene


@dataclass(frozen=True)
class Finding:
    """One fault that was found and fixed."""

    scene: str  # see scenes.py
    mutant: str  # the patch that reverts the fix
    found: str


KEPT: Final = (
    Finding(
        "renewed_at_the_end",
        "renewed-targets-are-overwritten",
        "Targets that were renewed while the upload ended: their later end was overwritten, and bytes stayed for good.",
    ),
    Finding(
        "a_newer_version",
        "an-unreadable-record-is-not-there",
        "A watch of a record that a newer version had written ended with UPLOAD_NOT_FOUND.",
    ),
    Finding(
        "a_full_account",
        "a-claim-goes-by-the-servers-clock",
        "Claims had the time of the server that made them: others gave back what was open, and more became open.",
    ),
    Finding(
        "cuts_of_a_lost_race",
        "cuts-of-a-lost-race-are-left",
        "One server stored cuts, another completed the upload without them: they belonged to nobody.",
    ),
    Finding(
        "a_completion_that_is_joined",
        "a-joined-completion-is-out-of-date",
        "A caller that joined a completion heard VARIANTS_MISSING of what it had stored before it called.",
    ),
    Finding(
        "a_listing_in_pieces",
        "what-was-sent-is-forgotten-too-early",
        "A watch that was resumed in its listing sent what had changed, and again when its listing came to it.",
    ),
    Finding(
        "a_reader_that_misses_twice",
        "what-was-sent-is-forgotten-too-early",
        "A watch of a partition that lost its stream twice while its reader was slow sent an asset twice.",
    ),
    Finding(
        "a_server_that_stood_still",
        "a-late-cut-is-signed-with-the-present-time",
        "A server that stood still for days while it cut a picture stored the cuts of an upload that was long gone.",
    ),
)
