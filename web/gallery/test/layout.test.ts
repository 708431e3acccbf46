import { describe, expect, it } from "vitest";

import { GAP, layOut, neighbour, rowHeightFor, rowsBetween, type Item } from "../src/layout.ts";

/** Items of all shapes, the same every time. */
function items(count: number, sections = 1): Item[] {
  let state = 7;
  return Array.from({ length: count }, (_, index) => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return { aspect: 0.3 + (state / 2 ** 31) * 3, section: `day ${Math.floor((index * sections) / count)}` };
  });
}

describe("layOut", () => {
  it.each([300, 366, 768, 1360, 2480, 3760])("fills rows of %i pixels to the pixel, and loses no item", (width) => {
    const all = items(1000, 12);
    const { rows, height } = layOut(all, width);
    expect(rows.flatMap(({ boxes }) => boxes.map(({ index }) => index))).toEqual(all.map((_, index) => index));
    let bottom = 0;
    for (const [at, row] of rows.entries()) {
      expect(row.top).toBeGreaterThanOrEqual(bottom);
      bottom = row.top + row.height;
      const last = row.boxes.at(-1);
      if (!last) continue;
      const endsSection = rows[at + 1]?.section !== undefined || at === rows.length - 1;
      if (!endsSection) expect(last.left + last.width).toBe(width);
      expect(last.left + last.width).toBeLessThanOrEqual(width);
      expect(row.height).toBeGreaterThan(rowHeightFor(width) * 0.5);
      expect(row.height).toBeLessThan(rowHeightFor(width) * 2);
      for (const [index, box] of row.boxes.entries()) {
        const before = row.boxes[index - 1];
        if (before) expect(box.left).toBe(before.left + before.width + GAP);
        expect(box.width).toBeGreaterThan(30);
      }
    }
    expect(height).toBeGreaterThanOrEqual(bottom);
  });

  it("puts a heading before each section, with how many stand under it", () => {
    const { rows } = layOut(items(30, 3), 800);
    expect(rows.filter(({ section }) => section !== undefined).map(({ section, count }) => [section, count])).toEqual([["day 0", 10], ["day 1", 10], ["day 2", 10]]);
  });

  it("lays out nothing, one item, and items without a measure", () => {
    expect(layOut([], 800)).toEqual({ rows: [], height: 0 });
    const [, row] = layOut([{ aspect: 0, section: "" }], 800).rows;
    expect(row?.boxes).toHaveLength(1);
    expect(layOut([{ aspect: Number.NaN, section: "" }], 800).rows[1]?.boxes[0]?.width).toBeGreaterThan(0);
  });
});

describe("rowsBetween", () => {
  it("finds what a window shows, in any place", () => {
    const { rows, height } = layOut(items(500, 4), 1000);
    for (let upper = -500; upper < height + 500; upper += 171) {
      const [from, to] = rowsBetween(rows, upper, upper + 900);
      const shown = rows.filter((row) => row.top <= upper + 900 && row.top + row.height >= upper);
      expect(rows.slice(from, to)).toEqual(shown);
    }
  });
});

describe("neighbour", () => {
  it("goes down and up through all rows", () => {
    const { rows } = layOut(items(200, 3), 900);
    let index: number | undefined = 0;
    let steps = 0;
    for (let next: number | undefined = 0; next !== undefined; next = neighbour(rows, next, 1)) [index, steps] = [next, steps + 1];
    expect(steps).toBe(rows.filter(({ boxes }) => boxes.length).length);
    while (neighbour(rows, index, -1) !== undefined) [index, steps] = [neighbour(rows, index, -1) as number, steps - 1];
    expect(steps).toBe(1);
  });
});
