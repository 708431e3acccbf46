import { readFileSync } from "node:fs";
import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";

import { CALL_REASONS, callFailed, CLIENT_REASONS, hasReason, UPLOAD_REASONS } from "../src/errors.js";
import { refusal } from "./fakes.js";

const PROTOS = new URL("../../../protos/assetlane/v1/", import.meta.url);

/** Every reason that the comments of the contract name. */
function reasonsOfTheContract(): Set<string> {
  const text = ["upload_service.proto", "asset_service.proto"].map((name) => readFileSync(new URL(name, PROTOS), "utf8")).join("\n");
  const comments = text.split("\n").filter((line) => line.trim().startsWith("//")).map((line) => line.trim().slice(2));
  const words = comments.join(" ").match(/\b[A-Z]+(?:_[A-Z]+)+\b/g) ?? [];
  const codes = new Set(Object.values(Code).filter((code) => typeof code === "string").map((code) => code.replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase()));
  return new Set(words.filter((word) => !codes.has(word) && !/^(UPLOAD_STATUS|CUT_MAKER|CUT_FORMAT|ASSET_CHANGE|PROGRESS_STAGE)_/.test(word) && word !== "UPPER_SNAKE"));
}

describe("reasons", () => {
  test("every reason that the contract names is known, and no other", () => {
    expect([...CALL_REASONS, ...UPLOAD_REASONS].sort()).toEqual([...reasonsOfTheContract()].sort());
  });

  test("the client's own are not the server's", () => {
    expect(CLIENT_REASONS.filter((reason) => reasonsOfTheContract().has(reason))).toEqual([]);
  });
});

describe("a failed call", () => {
  test("has the reason, and the wait that the server asks for", () => {
    const failed = callFailed(refusal(Code.ResourceExhausted, "TOO_MANY_CALLS", 250));
    expect(failed.reason).toBe("TOO_MANY_CALLS");
    expect(failed.retryAfterMs).toBe(250);
    expect(failed.isTemporary).toBe(true);
    expect(hasReason(failed, "TOO_MANY_CALLS")).toBe(true);
  });

  test("over a quota that no wait helps is final", () => {
    expect(callFailed(refusal(Code.ResourceExhausted, "TOO_MANY_BYTES")).isTemporary).toBe(false);
  });

  test("without an answer is temporary", () => {
    const failed = callFailed(ConnectError.from(new TypeError("Failed to fetch")));
    expect(failed.reason).toBe("SERVER_UNREACHABLE");
    expect(failed.isTemporary).toBe(true);
  });

  test("of a server that is none of ours has its status as reason", () => {
    expect(callFailed(new ConnectError("HTTP 404", Code.Unimplemented)).reason).toBe("UNIMPLEMENTED");
  });
});
