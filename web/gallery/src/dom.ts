// Elements without a framework: nothing here takes markup, so nothing can be injected.

import { createElement, type IconNode } from "lucide";

type Child = Node | string | number | null | undefined | false;
type Attributes = Readonly<Record<string, string | number | boolean | undefined | EventListener>>;

/** Makes an element. `on…` are listeners, `true` and `false` set or leave out an attribute, everything else is one. */
export function h<K extends keyof HTMLElementTagNameMap>(tag: K, attributes: Attributes = {}, ...children: readonly Child[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

/** Replaces what is in an element. */
export function fill(element: Element, ...children: readonly Child[]): void {
  element.replaceChildren();
  append(element, children);
}

function append(element: Element, children: readonly Child[]): void {
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false).map((child) => (typeof child === "number" ? String(child) : child)));
}

/** An icon without a name of its own: the element around it has a text or a label. */
export function icon(node: IconNode, size = 20): SVGElement {
  return createElement(node, { width: size, height: size, "aria-hidden": "true", focusable: "false" });
}

/** A button that is an icon. */
export function iconButton(label: string, node: IconNode, onclick: EventListener, className = "icon-button"): HTMLButtonElement {
  return h("button", { type: "button", class: className, "aria-label": label, title: label, onclick }, icon(node));
}

/** Returns a function that runs the work in the next frame, or soon in a tab without frames, which is hidden. Calls before that run it once. */
export function eachFrame(work: () => void): () => void {
  let isDue = false;
  return () => {
    if (isDue) return;
    isDue = true;
    const run = () => {
      if (!isDue) return;
      isDue = false;
      work();
    };
    requestAnimationFrame(run);
    setTimeout(run, 200);
  };
}

/** Has a screen reader read a text out. */
export function announce(text: string): void {
  const region = document.querySelector("#announcements");
  if (region) region.textContent = text;
}

/** Shows a message for five seconds. */
export function toast(text: string, kind: "plain" | "bad" = "plain"): void {
  announce(text);
  const note = h("div", { class: `toast ${kind}` }, text);
  // In the last open dialog, which covers everything else.
  const dialogs = document.querySelectorAll<HTMLDialogElement>("dialog[open]");
  ([...dialogs].at(-1) ?? document.body).append(note);
  setTimeout(() => note.remove(), 5_000);
}
