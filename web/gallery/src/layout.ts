// A pure layout: rows of pictures that fill the width, under a heading for each day.

export interface Item {
  /** Width over height. */
  readonly aspect: number;
  /** The heading that the item belongs to. */
  readonly section: string;
}

export interface Box {
  readonly index: number;
  readonly left: number;
  readonly width: number;
}

export interface Row {
  readonly top: number;
  readonly height: number;
  /** The heading; only in a row that is one. */
  readonly section?: string;
  /** How many items the heading has. */
  readonly count?: number;
  readonly boxes: readonly Box[];
}

export interface Layout {
  readonly rows: readonly Row[];
  readonly height: number;
}

export const GAP = 6;
export const HEADING_HEIGHT = 52;
const LEAST_ASPECT = 0.6;
const MOST_ASPECT = 2.6;
const MOST_STRETCH = 1.35;

/** The height that rows should have: smaller on a phone, larger on a large screen. */
export function rowHeightFor(width: number): number {
  return Math.round(Math.min(330, Math.max(118, 74 + width / 8.6)));
}

/** Lays items out in their order, a new row for each section; a last row that is not full keeps its height. */
export function layOut(items: readonly Item[], width: number, rowHeight = rowHeightFor(width)): Layout {
  const rows: Row[] = [];
  let top = 0;
  for (let first = 0; first < items.length; ) {
    const section = items[first]?.section ?? "";
    let end = first;
    while (end < items.length && items[end]?.section === section) end += 1;
    rows.push({ top, height: HEADING_HEIGHT, section, count: end - first, boxes: [] });
    top += HEADING_HEIGHT;
    for (let start = first; start < end; ) {
      let stop = start;
      let aspects = 0;
      let height = Number.POSITIVE_INFINITY;
      while (stop < end && height > rowHeight) {
        aspects += aspectOf(items[stop]);
        stop += 1;
        height = (width - GAP * (stop - start - 1)) / aspects;
      }
      // Without the last item the row may be closer to that height.
      const without = (width - GAP * (stop - start - 2)) / (aspects - aspectOf(items[stop - 1]));
      if (stop - start > 1 && without <= rowHeight * MOST_STRETCH && without - rowHeight < rowHeight - height) {
        stop -= 1;
        height = without;
      }
      const isFull = height <= rowHeight * MOST_STRETCH;
      const used = Math.round(isFull ? height : rowHeight);
      rows.push({ top, height: used, boxes: boxesOf(items, start, stop, isFull ? width : undefined, used) });
      top += used + GAP;
      start = stop;
    }
    first = end;
  }
  return { rows, height: top };
}

function boxesOf(items: readonly Item[], start: number, stop: number, fullWidth: number | undefined, height: number): Box[] {
  const boxes: Box[] = [];
  let left = 0;
  for (let index = start; index < stop; index++) {
    const isLast = index === stop - 1;
    // The last one takes up the rounding error.
    const width = isLast && fullWidth !== undefined ? fullWidth - left : Math.round(aspectOf(items[index]) * height);
    boxes.push({ index, left, width });
    left += width + GAP;
  }
  return boxes;
}

function aspectOf(item: Item | undefined): number {
  return Math.min(MOST_ASPECT, Math.max(LEAST_ASPECT, item?.aspect || 1));
}

/** The rows between two vertical positions, as indices [from, to). */
export function rowsBetween(rows: readonly Row[], upper: number, lower: number): [number, number] {
  let low = 0;
  let high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const row = rows[middle];
    if (row && row.top + row.height < upper) low = middle + 1;
    else high = middle;
  }
  let to = low;
  while (to < rows.length && (rows[to]?.top ?? 0) <= lower) to += 1;
  return [low, to];
}

/** The item in the next row above or below that is nearest to the middle of this one. */
export function neighbour(rows: readonly Row[], index: number, direction: 1 | -1): number | undefined {
  const at = rows.findIndex(({ boxes }) => boxes.some((box) => box.index === index));
  const box = rows[at]?.boxes.find((one) => one.index === index);
  if (!box) return undefined;
  const middle = box.left + box.width / 2;
  for (let row = at + direction; row >= 0 && row < rows.length; row += direction) {
    const boxes = rows[row]?.boxes ?? [];
    const distance = (one: Box) => Math.abs(one.left + one.width / 2 - middle);
    if (boxes.length) return boxes.reduce((best, one) => (distance(one) < distance(best) ? one : best)).index;
  }
  return undefined;
}
