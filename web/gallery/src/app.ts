// The gallery itself: two partitions, the grid, files that are added, and uploads in progress.

import { AssetlaneClient, newRequestId, type Asset } from "@assetlane/client";
import { Camera, Code, FolderUp, LogOut, Plus, WifiOff } from "lucide";

import { announce, fill, h, icon, iconButton, toast } from "./dom.ts";
import { Grid } from "./grid.ts";
import { acceptFiles, picked, type Incoming } from "./intake.ts";
import { Library } from "./library.ts";
import { titleOf } from "./look.ts";
import { wordmark } from "./mark.ts";
import { freshToken, signOut, type Session } from "./session.ts";
import { Uploads } from "./uploads.ts";
import type { Source } from "./urls.ts";
import type { Viewer } from "./viewer.ts";

interface Place {
  readonly id: "everyone" | "mine";
  readonly label: string;
  readonly partition: string;
  readonly isPublic: boolean;
  readonly empty: string;
}

const PLACE = "assetlane-gallery-place";
const SESSION = "assetlane-gallery-session";
const SESSION_MS = 3_600_000;

export function showGallery(root: HTMLElement, session: Session): void {
  const client = new AssetlaneClient({ url: session.api, token: freshToken, sessionId: sessionIdOf(session.user) });
  const places: readonly Place[] = [
    { id: "everyone", label: "Everyone", partition: "public", isPublic: session.publicAssets, empty: "Everybody sees what is here, as soon as it arrives." },
    { id: "mine", label: "Only me", partition: `user/${session.user}`, isPublic: false, empty: "Only you see what is here." },
  ];
  let place = places.find(({ id }) => id === localStorage.getItem(PLACE)) ?? (places[0] as Place);

  const libraries = new Map<string, Library>();
  const library = () => libraries.get(place.id) as Library;
  const source: Source = {
    client,
    current: (asset) => {
      const known = libraries.get(asset.partition === "public" ? "everyone" : "mine")?.get(asset.assetId);
      return known && known.revision > asset.revision ? known : asset;
    },
    note: (asset) => libraries.get(asset.partition === "public" ? "everyone" : "mine")?.take(asset),
  };

  let viewer: Viewer | undefined;
  const openViewer = async (asset: Asset) => {
    if (!viewer) {
      const { Viewer } = await import("./viewer.ts");
      viewer ??= new Viewer(source, {
        assets: () => library().assets,
        user: session.user,
        onDelete: async (gone) => {
          await client.deleteAsset(gone.assetId);
          library().remove(gone.assetId);
          toast(`${titleOf(gone)} has been deleted`);
        },
        onDevelop: (shown) => void openDeveloper(shown),
        onClose: (assetId) => grid.focus(assetId),
      });
    }
    viewer.open(asset);
  };
  const openDeveloper = async (asset?: Asset) => {
    const { openDrawer } = await import("./developer.ts");
    openDrawer(session, asset);
  };
  const grid = new Grid(source, (asset) => void openViewer(asset));
  const uploads = new Uploads(client, session.user, (asset) => source.note(asset));
  const add = (files: readonly Incoming[]) => {
    if (files.length) void uploads.add(files, place).catch((error: unknown) => toast(String(error), "bad"));
  };

  // What is on the page

  const files = h("input", { type: "file", id: "files", multiple: true, hidden: true, tabindex: "-1", "aria-label": "Files" });
  const folder = h("input", { type: "file", id: "folder", webkitdirectory: true, hidden: true, tabindex: "-1", "aria-label": "A folder" });
  const camera = h("input", { type: "file", id: "camera", accept: "image/*", capture: "environment", hidden: true, tabindex: "-1", "aria-label": "A photo" });
  for (const input of [files, folder, camera]) {
    input.addEventListener("change", () => {
      add(picked(input.files ?? []));
      input.value = ""; // the same file can be picked again
    });
  }
  const takePhoto = async () => {
    // A phone's own camera is better than what a page can show.
    if (matchMedia("(pointer: coarse)").matches) return camera.click();
    const { openCamera } = await import("./camera.ts");
    await openCamera((file) => add(picked([file])));
  };
  const buttons = () => [
    h("button", { type: "button", class: "button add", onclick: () => files.click() }, icon(Plus, 18), h("span", {}, "Add files")),
    iconButton("Add a folder", FolderUp, () => folder.click()),
    iconButton("Take a photo", Camera, () => void takePhoto()),
  ];
  const tabs = places.map((one) =>
    h("button", { type: "button", class: "place", "data-place": one.id, onclick: () => go(one) }, h("span", {}, one.label), h("span", { class: "place-count", "aria-hidden": "true" })),
  );
  const leave = async () => {
    await signOut();
    location.reload();
  };
  const account = h("details", { class: "account" },
    h("summary", { "aria-label": `Account of ${session.user}` }, h("span", { class: "avatar", "aria-hidden": "true" }, session.user.slice(0, 1))),
    h("div", { class: "menu" },
      h("p", {}, "Signed in as ", h("strong", {}, session.user)),
      h("button", { type: "button", class: "button quiet small", onclick: () => void leave() }, icon(LogOut, 15), "Sign out"),
    ),
  );
  addEventListener("click", (event) => {
    if (!(event.target instanceof Node && account.contains(event.target))) account.open = false;
  });
  account.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    account.open = false;
    account.querySelector("summary")?.focus();
  });
  const banner = h("p", { class: "banner", role: "status", hidden: true });
  const empty = h("section", { class: "empty", hidden: true },
    h("div", { class: "empty-art", "aria-hidden": "true" }, h("i"), h("i"), h("i")),
    h("h2", {}, "Drop a photo here"),
    h("p", { class: "empty-text" }),
    h("button", { type: "button", class: "button", onclick: () => files.click() }, icon(Plus, 18), "Choose files"),
  );
  const loading = h("p", { class: "loading", role: "status" }, "Loading …");
  const dropHint = h("div", { class: "drop-hint", "aria-hidden": "true" }, h("div", {}, h("strong", {}), h("span", {}, "Photos, videos, sound, documents, whole folders")));
  fill(root,
    h("a", { class: "skip", href: "#content" }, "Skip to the gallery"),
    h("header", { class: "top" },
      wordmark(),
      h("nav", { class: "places", "aria-label": "Partitions" }, ...tabs),
      h("div", { class: "tools" }, ...buttons(), iconButton("For developers", Code, () => void openDeveloper()), account),
    ),
    banner,
    h("main", { id: "content", tabindex: "-1" }, h("h1", { class: "unseen" }, "Gallery"), loading, empty, grid.element),
    h("div", { class: "dock" }, ...buttons()),
    uploads.element,
    dropHint,
    files, folder, camera,
    h("div", { id: "announcements", class: "unseen", "aria-live": "polite", role: "status" }),
  );

  // What happens

  const draw = () => {
    const shown = library();
    grid.show(shown.assets);
    const isEmpty = shown.assets.length === 0;
    loading.hidden = !isEmpty || shown.isSynced;
    empty.hidden = !isEmpty || !shown.isSynced;
    for (const tab of tabs) {
      const one = libraries.get(tab.dataset["place"] ?? "");
      const count = tab.querySelector(".place-count");
      if (count && one) count.textContent = one.assets.length ? String(one.assets.length) : "";
    }
    viewer?.refresh();
  };
  const go = (next: Place) => {
    place = next;
    localStorage.setItem(PLACE, next.id);
    for (const tab of tabs) {
      if (tab.dataset["place"] === next.id) tab.setAttribute("aria-current", "true");
      else tab.removeAttribute("aria-current");
    }
    const text = empty.querySelector(".empty-text");
    if (text) text.textContent = next.empty;
    const hint = dropHint.querySelector("strong");
    if (hint) hint.textContent = `Drop to add to “${next.label}”`;
    scrollTo({ top: 0, behavior: "instant" });
    draw();
  };
  let isLost = false;
  const drawBanner = () => {
    const text = !navigator.onLine ? "You are offline. What you add is kept here, and uploaded when the network is back." : isLost ? "The server does not answer. Trying again …" : "";
    banner.hidden = !text;
    if (banner.textContent !== text) fill(banner, text && icon(WifiOff, 16), text);
    document.documentElement.classList.toggle("is-offline", !!text);
  };
  addEventListener("online", drawBanner);
  addEventListener("offline", drawBanner);

  const ended = new AbortController();
  for (const one of places) {
    const made = new Library(client, one.partition, {
      onChange: draw,
      onNews: (what, asset) => {
        if (one.id === place.id) announce(`${asset.uid} has ${what} ${titleOf(asset)}`);
      },
      onConnection: (lost) => {
        if (lost === isLost) return;
        isLost = lost;
        drawBanner();
      },
    });
    libraries.set(one.id, made);
    made.follow(ended.signal).catch((error: unknown) => toast(`The gallery has stopped: ${String(error)}`, "bad"));
  }
  go(place);
  drawBanner();
  acceptFiles(add, (isOver) => dropHint.classList.toggle("is-over", isOver));
  uploads.start().catch((error: unknown) => toast(`The outbox cannot be opened: ${String(error)}`, "bad"));
  uploads.follow(ended.signal).catch((error: unknown) => toast(`The status of uploads cannot be shown: ${String(error)}`, "bad"));
}

/**
 * The session whose uploads are watched: one for all tabs, so that they watch over one connection, and a new one after
 * an hour, so that a watch does not begin with everything that was ever uploaded here.
 */
function sessionIdOf(user: string): string {
  const [owner, id, sinceMs] = (localStorage.getItem(SESSION) ?? "").split(" ");
  if (owner === user && id && Date.now() - Number(sinceMs) < SESSION_MS) return id;
  const fresh = newRequestId();
  localStorage.setItem(SESSION, `${user} ${fresh} ${Date.now()}`);
  return fresh;
}
