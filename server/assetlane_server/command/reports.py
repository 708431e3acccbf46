"""What `doctor`, `reconcile`, `migrate` and `erase` print: for eyes, or one JSON object per line for programs."""

import json
import textwrap
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from datetime import datetime, timedelta

from assetlane_server.doctor.finding import SENTENCE_COLUMN, Finding, Verdict
from assetlane_server.model.errors import NotReady
from assetlane_server.model.reconciliation import Discrepancy, Kind
from assetlane_server.records.migration import MigrationReport
from assetlane_server.uploads.erasure import ErasureReport
from assetlane_server.uploads.reconciler import DiscrepancyCounts, Reconciler

MAX_LISTED = 1000  # of one kind, kept for the report: --json lists all

Write = Callable[[str], None]


async def report_findings(
    findings: AsyncIterator[Finding], as_json: bool, write: Write, *, columns: int | None = None
) -> bool:
    """Writes each finding as it comes and returns whether none FAILED. `columns`: of the terminal, if it is one."""
    is_sound = True
    async for finding in findings:
        write(json.dumps(asdict(finding)) if as_json else _broken(finding, columns))
        is_sound = is_sound and finding.verdict is not Verdict.FAILED
    return is_sound


def _broken(finding: Finding, columns: int | None) -> str:
    """Returns the lines of a finding, broken between words below the column in which its sentence begins."""
    lines = finding.line.split("\n")
    if columns is None or columns < 2 * SENTENCE_COLUMN:
        return "\n".join(lines)
    indent = " " * SENTENCE_COLUMN
    return "\n".join(
        textwrap.fill(
            line, columns, subsequent_indent=indent, drop_whitespace=True, break_long_words=False,
            break_on_hyphens=False, replace_whitespace=False,
        )
        for line in lines
    )  # fmt: skip


async def report_discrepancies(reconciler: Reconciler, as_json: bool, write: Write) -> bool:
    """Writes the counts, then what was found, in JSON the other way round; returns whether all agrees."""
    listed: list[Discrepancy] = []
    per_kind: Counter[Kind] = Counter()
    async for found in reconciler.discrepancies():
        if as_json:
            write(_json(found))
            continue
        per_kind[found.kind] += 1
        if per_kind[found.kind] <= MAX_LISTED:
            listed.append(found)
    counts = reconciler.counts
    if as_json:
        write(json.dumps({"summary": asdict(counts)}))
        return counts.is_clean
    write(_counts(counts))
    for found in listed:
        write(_line(found))
    for kind, count in per_kind.items():
        if count > MAX_LISTED:
            write(f"... and {count - MAX_LISTED:,} more of kind {kind}: --json lists all.")
    return counts.is_clean


async def delete_orphans(reconciler: Reconciler, age: timedelta, as_json: bool, write: Write) -> None:
    """Deletes the orphans that are old enough, after a report, and writes each.

    Raises NotReady when the ledger knows none of the bucket's objects: it is another bucket's, more likely.
    """
    counts = reconciler.counts
    if not (counts.orphans or counts.lingering):
        return
    if not counts.belonging:
        raise NotReady(
            f"nothing was deleted: this ledger knows none of the {counts.objects:,} objects, so it is probably"
            " another bucket's. Look at ASSETLANE_MONGO_DATABASE, ASSETLANE_S3_BUCKET and ASSETLANE_KEY_PREFIX.",
            reason="LEDGER_OF_ANOTHER_BUCKET",
            settings=("ASSETLANE_MONGO_DATABASE", "ASSETLANE_S3_BUCKET", "ASSETLANE_KEY_PREFIX"),
        )
    count = size_bytes = 0
    async for deleted in reconciler.delete_orphans(age):
        count += 1
        size_bytes += deleted.size_bytes
        what = "aborted" if deleted.multipart_id else "deleted"
        write(json.dumps({what: deleted.key}) if as_json else f"{what}  {deleted.key}")
    if not as_json:
        hours = age / timedelta(hours=1)
        write(f"Deleted {count:,} orphans of {size_bytes:,} bytes, all at least {hours:g} hours old.")


def migration_lines(report: MigrationReport, as_json: bool) -> list[str]:
    """Returns what a migration has done, and what an operator should know."""
    if as_json:
        return [json.dumps(asdict(report))]
    lines = [f"Wrote {report.uploads:,} uploads in the new form, and put {report.assets:,} assets into them."]
    for count, meaning in (
        (report.rebuilt, "assets had outlived the record of their upload: it was made of what the asset says."),
        (report.finished, "uploads had an asset and were not COMPLETED yet, since a server had died: they are now."),
        (report.lost, "uploads are COMPLETED and have no asset: the old ledger had lost it."),
        (report.contradicted, "assets belonged to uploads that ended without one: they were left out."),
        (report.unreadable, "records are not as version 0.1.0 wrote them: they were left, and the log names them."),
    ):
        if count:
            lines.append(f"{count:,} {meaning}")
    return lines


def erasure_lines(uid: str, report: ErasureReport, as_json: bool) -> list[str]:
    """Returns what an erasure has done, and what is left of it."""
    if as_json:
        counts = {name: value for name, value in asdict(report).items() if name != "partitions"}
        until = report.left_until
        return [json.dumps({"uid": uid, **counts, "left_until": until and until.isoformat()})]
    done = f"{report.assets_deleted:,} assets deleted, {report.uploads_ended:,} open uploads ended"
    lines = [f"Erased what {uid!r} had: {done}, {report.records_removed:,} records removed."]
    if report.records_left and report.left_until is not None:
        lines.append(
            f"{report.records_left:,} records are left, the last until {report.left_until:%Y-%m-%d %H:%M} UTC: until"
            " then a write URL may live, or a watcher has to learn of a deletion. They hold ids, owner and partition."
            " A server that runs removes them in time; run this again after that to be sure."
        )
    if report.records_unreadable:
        lines.append(
            f"{report.records_unreadable:,} records cannot be read by this version and were left as they are: the log"
            " names them. Run the newest version that has served here."
        )
    return lines


def _counts(counts: DiscrepancyCounts) -> str:
    return (
        f"Compared {counts.objects:,} objects and {counts.assets:,} assets: {counts.orphans:,} orphans,"
        f" {counts.phantoms:,} phantoms, {counts.lingering:,} lingering multiparts,"
        f" {counts.foreign:,} foreign keys."
    )


def _line(found: Discrepancy) -> str:
    stored = f", stored {found.modify_time:%Y-%m-%d %H:%M} UTC" if found.modify_time else ""
    return f"{found.kind:<9} {found.key} ({found.size_bytes:,} bytes{stored})\n{'':10}{found.detail}"


def _json(found: Discrepancy) -> str:
    return json.dumps(asdict(found), default=lambda value: value.isoformat() if isinstance(value, datetime) else None)
