// The drawer for developers: an asset as JSON, programs that read it, and the findings of doctor.

import { toJson } from "@bufbuild/protobuf";
import { AssetSchema, type Asset } from "@assetlane/client";
import { Check, CircleAlert, CircleMinus, Copy, KeyRound, RefreshCw, TriangleAlert, X } from "lucide";

import { fill, h, icon, iconButton, toast } from "./dom.ts";
import { findings, freshToken, Refused, type Finding, type Session } from "./session.ts";
import { LANGUAGES, snippet, takesToken, type Language } from "./snippets.ts";

const TABS = ["JSON", "Copy as", "Doctor"] as const;
type Tab = (typeof TABS)[number];

/** Opens the drawer; without an asset it shows the findings of doctor. */
export function openDrawer(session: Session, asset: Asset | undefined): void {
  const panel = h("div", { class: "drawer-panel", role: "tabpanel", tabindex: "0", id: "drawer-panel" });
  const tabs = TABS.filter((tab) => asset || tab === "Doctor").map((tab) =>
    h("button", { type: "button", role: "tab", id: `tab-${tab.replace(" ", "-")}`, "aria-controls": "drawer-panel", onclick: () => select(tab) }, tab),
  );
  const list = h("div", { role: "tablist", class: "drawer-tabs", "aria-label": "For developers" }, ...tabs);
  list.addEventListener("keydown", (event) => {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    const next = tabs[(tabs.findIndex((tab) => tab === document.activeElement) + step + tabs.length) % tabs.length];
    if (!step || !next) return;
    next.focus();
    next.click();
  });
  const dialog = h("dialog", { class: "drawer", "aria-label": "For developers" }, h("header", {}, list, iconButton("Close", X, () => dialog.close())), panel);
  const ended = new AbortController();
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    ended.abort();
    dialog.remove();
  });
  const select = (tab: Tab) => {
    for (const one of tabs) {
      const isSelected = one.textContent === tab;
      one.setAttribute("aria-selected", String(isSelected));
      one.tabIndex = isSelected ? 0 : -1;
      if (isSelected) panel.setAttribute("aria-labelledby", one.id);
    }
    if (tab === "Doctor") showDoctor(panel, ended.signal);
    else if (asset) fill(panel, ...(tab === "JSON" ? jsonOf(asset) : snippetsOf(asset, session)));
  };
  document.body.append(dialog);
  dialog.showModal();
  select(asset ? "JSON" : "Doctor");
}

function jsonOf(asset: Asset): Node[] {
  const text = JSON.stringify(toJson(AssetSchema, asset), null, 2);
  const code = h("code");
  // Keys, strings and everything else have their own colours.
  for (const part of text.split(/("(?:[^"\\]|\\.)*"\s*:?)/)) {
    if (!part) continue;
    const kind = part.endsWith(":") ? "key" : part.startsWith('"') ? "text" : "";
    code.append(kind ? h("span", { class: kind }, part) : part);
  }
  return [
    h("p", { class: "drawer-note" }, "The asset as the server returns it. Anybody who has a read URL can read the file until the URL expires."),
    h("pre", {}, code),
    copyButton("Copy the JSON", () => text),
  ];
}

function snippetsOf(asset: Asset, session: Session): Node[] {
  const where = { api: session.api, grpc: session.grpc, openTarget: session.openTarget };
  const one = (language: Language) => {
    const text = snippet(language, asset.assetId, where);
    return h("section", { class: "snippet", "data-language": language },
      h("h3", {}, language, takesToken(language, where) && h("span", { class: "needs" }, icon(KeyRound, 13), "ASSETLANE_TOKEN")),
      h("pre", {}, h("code", {}, text)),
      copyButton(`Copy as ${language}`, () => text),
    );
  };
  return [
    h("p", { class: "drawer-note" }, "Programs that read this asset. The gallery's own ports ask for a token, as in production; yours is valid for 15 minutes."),
    copyButton("Copy a token", () => freshToken(), KeyRound),
    ...LANGUAGES.map(one),
  ];
}

function copyButton(label: string, text: () => string | Promise<string>, image = Copy): HTMLButtonElement {
  const button = h("button", { type: "button", class: "button quiet small", onclick: () => void copy() }, icon(image, 15), label);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(await text());
      toast("Copied");
    } catch {
      toast("The browser does not let this page copy", "bad");
    }
  };
  return button;
}

function showDoctor(panel: HTMLElement, signal: AbortSignal): void {
  const list = h("ul", { class: "findings", "aria-live": "polite" });
  const head = h("p", { class: "drawer-note" }, "doctor checks MongoDB and the object store with real requests …");
  const again = h("button", { type: "button", class: "button quiet small", disabled: true, onclick: () => showDoctor(panel, signal) }, icon(RefreshCw, 15), "Check again");
  fill(panel, head, list, again);
  const run = async () => {
    const counts = { ok: 0, warning: 0, FAILED: 0, skipped: 0 };
    try {
      for await (const finding of findings()) {
        if (signal.aborted) return;
        counts[finding.verdict] += 1;
        list.append(light(finding));
      }
      head.textContent = counts.FAILED ? `${counts.FAILED} of ${list.childElementCount} checks failed.` : counts.warning ? `Everything works; ${counts.warning} could be better.` : `All ${counts.ok} checks passed.`;
    } catch (error) {
      head.textContent = error instanceof Refused ? error.message : "The gallery's server did not answer.";
    }
    again.disabled = false;
  };
  void run();
}

function light({ name, verdict, detail, advice }: Finding): HTMLLIElement {
  const image = { ok: Check, warning: TriangleAlert, FAILED: CircleAlert, skipped: CircleMinus }[verdict];
  return h("li", { class: `finding ${verdict.toLowerCase()}` },
    h("span", { class: "light", role: "img", "aria-label": verdict }, icon(image, 13)),
    h("div", {}, h("strong", {}, name), h("p", {}, detail), advice && h("p", { class: "advice" }, advice)),
  );
}
