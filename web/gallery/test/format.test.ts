import { describe, expect, it } from "vitest";

import { bytes, cleanPath, dayOf, kindOf, playingTime, Rate, timeLeft } from "../src/format.ts";
import { LANGUAGES, snippet, takesToken } from "../src/snippets.ts";

describe("texts", () => {
  it.each([[0, "0 bytes"], [999, "999 bytes"], [1000, "1 KB"], [1536, "1.54 KB"], [99_950, "100 KB"], [999_600, "1 MB"], [12_345_678, "12.3 MB"], [5e12, "5 TB"], [5e15, "5000 TB"]])("%i bytes are %s", (count, text) => {
    expect(bytes(count)).toBe(text);
    expect(bytes(BigInt(count))).toBe(text);
  });

  it("says how long something plays, and how long it takes", () => {
    expect([0, 7, 59.6, 3599, 3600, 3723].map(playingTime)).toEqual(["0:00", "0:07", "1:00", "59:59", "1:00:00", "1:02:03"]);
    expect([0.2, 59, 60, 3700, Number.POSITIVE_INFINITY, Number.NaN].map(timeLeft)).toEqual(["1 s left", "59 s left", "1 min left", "2 h left", "", ""]);
  });

  it("knows days across months, and a night's change of the clock", () => {
    const now = new Date(2026, 2, 1, 0, 5);
    expect(dayOf(new Date(2026, 2, 1, 0, 1), now)).toBe("Today");
    expect(dayOf(new Date(2026, 1, 28, 23, 59), now)).toBe("Yesterday");
    expect(dayOf(new Date(2026, 1, 27, 23, 59), now)).toBe("Friday, 27 February 2026");
  });

  it("makes paths that the server takes", () => {
    expect(cleanPath("/album//2026/./../a\u0000b\\c.jpg")).toBe("album/2026/a_b_c.jpg");
    expect(cleanPath("u\u0308ber.txt")).toBe("über.txt");
    expect(cleanPath("../..")).toBe("unnamed");
  });

  it("names kinds of documents", () => {
    expect([kindOf("a.pdf", ""), kindOf("b.tar.gz", ""), kindOf("README", "text/plain"), kindOf("x", "application/vnd.oasis.opendocument.text"), kindOf("", "")]).toEqual(["PDF", "GZ", "PLAIN", "TEXT", "FILE"]);
  });
});

describe("Rate", () => {
  it("follows a change, and begins again when a try is repeated", () => {
    const rate = new Rate(1_000);
    for (let ms = 0; ms <= 3_000; ms += 100) rate.add(ms * 100, ms);
    expect(rate.perSecond(3_000)).toBeCloseTo(100_000);
    expect(rate.perSecond(6_000)).toBeLessThan(40_000); // nothing has come since
    rate.add(10, 6_100);
    expect(rate.perSecond(6_100)).toBe(0);
  });
});

describe("snippets", () => {
  const where = { api: "http://127.0.0.1:11151", grpc: "127.0.0.1:11152", openTarget: "127.0.0.1:50151" };

  it.each(LANGUAGES)("in %s names the asset, and a token where one is needed", (language) => {
    for (const given of [where, { ...where, openTarget: "" }]) {
      const text = snippet(language, "01jzq7v0x1m8e0n3w9k2c4d5f6", given);
      expect(text).toContain("01jzq7v0x1m8e0n3w9k2c4d5f6");
      expect(text.includes("ASSETLANE_TOKEN")).toBe(takesToken(language, given));
    }
  });
});
