// The mark: three lanes.

import { h } from "./dom.ts";

const SVG = "http://www.w3.org/2000/svg";

export function wordmark(): HTMLElement {
  const svg = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({ viewBox: "0 0 28 24", width: "28", height: "24", "aria-hidden": "true", class: "mark" })) svg.setAttribute(name, value);
  for (const [index, path] of ["M4 20 10 4", "M12 20 18 4", "M20 20l3.2-8.5"].entries()) {
    const lane = document.createElementNS(SVG, "path");
    lane.setAttribute("d", path);
    lane.setAttribute("class", `lane${index}`);
    svg.append(lane);
  }
  return h("span", { class: "wordmark" }, svg, h("span", {}, "assetlane"));
}
