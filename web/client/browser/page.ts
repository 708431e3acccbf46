// What the tests in tests/web call by page.evaluate.
import * as assetlane from "@assetlane/client";

/** One line for each event of a watch: what happened, to what, and its revision. */
async function follow(events: AsyncIterable<assetlane.AssetEvent>, lines: string[]): Promise<void> {
  for await (const event of events) {
    if (event.case === "asset") lines.push(`${assetlane.AssetChange[event.value.change]} ${event.value.asset?.assetId} ${event.value.asset?.revision}`);
    else if (event.case === "deleted") lines.push(`DELETED ${event.value.assetId} ${event.value.revision}`);
    else lines.push("SYNCED");
  }
}

function picked(index = 0): File {
  const file = document.querySelector<HTMLInputElement>("#file")?.files?.[index];
  if (!file) throw new Error("no file is picked");
  return file;
}

Object.assign(window, { assetlane, follow, picked });
