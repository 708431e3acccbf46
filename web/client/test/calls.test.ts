import { Code } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";

import { AssetService } from "../src/gen/assetlane/v1/asset_service_pb.js";
import { claimsOf, Tokens } from "../src/tokens.js";
import { connectionTo, refusal } from "./fakes.js";

const jwt = (claims: object) => `x.${btoa(JSON.stringify(claims)).replaceAll("=", "")}.y`;

function failing(...failures: (Error | undefined)[]) {
  const tokens: string[] = [];
  const routes = (router: Parameters<Parameters<typeof connectionTo>[0]>[0]) =>
    router.service(AssetService, {
      deleteAsset: (_request, context) => {
        tokens.push(context.requestHeader.get("authorization") ?? "");
        const failure = failures.shift();
        if (failure) throw failure;
        return {};
      },
    });
  return { tokens, routes };
}

describe("a call", () => {
  test("is repeated while the server is away or busy", async () => {
    const { tokens, routes } = failing(refusal(Code.Unavailable, "SHUTTING_DOWN"), refusal(Code.ResourceExhausted, "TOO_MANY_CALLS", 1));
    const connection = connectionTo(routes);
    await connection.call((options) => connection.assets.deleteAsset({ assetId: "x" }, options));
    expect(tokens).toHaveLength(3);
  });

  test("is not repeated when that cannot help", async () => {
    const { tokens, routes } = failing(refusal(Code.NotFound, "ASSET_NOT_FOUND"));
    const connection = connectionTo(routes);
    await expect(connection.call((options) => connection.assets.deleteAsset({ assetId: "x" }, options))).rejects.toMatchObject({ reason: "ASSET_NOT_FOUND" });
    expect(tokens).toHaveLength(1);
  });

  test("ends at its limit with the last error", async () => {
    const { routes } = failing(...Array.from({ length: 1000 }, () => refusal(Code.Unavailable, "LEDGER_UNAVAILABLE")));
    const connection = connectionTo(routes);
    await expect(connection.call((options) => connection.assets.deleteAsset({ assetId: "x" }, options), { timeoutMs: 300 })).rejects.toMatchObject({ reason: "LEDGER_UNAVAILABLE" });
  });

  test("ends as CANCELLED when its signal aborts while it waits", async () => {
    const { routes } = failing(refusal(Code.ResourceExhausted, "TOO_MANY_CALLS", 900));
    const connection = connectionTo(routes);
    const stop = new AbortController();
    const calling = connection.call((options) => connection.assets.deleteAsset({ assetId: "x" }, options), { signal: stop.signal });
    setTimeout(() => stop.abort(), 20);
    await expect(calling).rejects.toMatchObject({ reason: "CANCELLED" });
  });

  test("fetches another token when one is refused, and only once", async () => {
    let fetched = 0;
    const { tokens, routes } = failing(refusal(Code.Unauthenticated, "TOKEN_EXPIRED"), undefined, refusal(Code.Unauthenticated, "TOKEN_INVALID"), refusal(Code.Unauthenticated, "TOKEN_INVALID"));
    const connection = connectionTo(routes, () => `t${(fetched += 1)}`);
    const call = () => connection.call((options) => connection.assets.deleteAsset({ assetId: "x" }, options));
    await call();
    expect(tokens).toEqual(["Bearer t1", "Bearer t2"]);
    await expect(call()).rejects.toMatchObject({ reason: "TOKEN_INVALID" });
    expect(tokens).toEqual(["Bearer t1", "Bearer t2", "Bearer t2", "Bearer t3"]);
  });

  test("of a token that is no function fails at once", async () => {
    const { tokens, routes } = failing(refusal(Code.Unauthenticated, "TOKEN_EXPIRED"));
    const connection = connectionTo(routes, "fixed");
    await expect(connection.call((options) => connection.assets.deleteAsset({ assetId: "x" }, options))).rejects.toMatchObject({ reason: "TOKEN_EXPIRED" });
    expect(tokens).toEqual(["Bearer fixed"]);
  });

  test("says that the token function failed, and why", async () => {
    const { routes } = failing();
    const connection = connectionTo(routes, () => Promise.reject(new Error("signed out")));
    await expect(connection.call((options) => connection.assets.deleteAsset({ assetId: "x" }, options), { timeoutMs: 1 })).rejects.toMatchObject({ reason: "TOKEN_UNAVAILABLE", message: "The token function failed: signed out" });
  });
});

describe("tokens", () => {
  test("are fetched once for everybody who waits", async () => {
    let fetched = 0;
    const tokens = new Tokens(async () => `t${(fetched += 1)}`);
    expect(await Promise.all([tokens.get(), tokens.get(), tokens.get()])).toEqual(["t1", "t1", "t1"]);
  });

  test("that are about to end are replaced, by the issuer's clock", async () => {
    let fetched = 0;
    const now = 1_000; // the issuer's clock is decades behind: only differences count
    const tokens = new Tokens(() => jwt({ iat: now, exp: now + 3600, n: (fetched += 1) }));
    await tokens.get();
    await tokens.get();
    expect(fetched).toBe(1);
  });

  test("a late refusal of an older token does not drop the newer one", async () => {
    let fetched = 0;
    const tokens = new Tokens(() => `t${(fetched += 1)}`);
    const old = await tokens.get();
    await tokens.refused(old);
    expect(await tokens.get()).toBe("t2");
    await tokens.refused(old);
    expect(await tokens.get()).toBe("t2");
  });

  test.each([undefined, "", "opaque", "a.b", "a.!!!.c", `a.${btoa("[1")}.c`, `a.${btoa("7")}.c`])("%j has no claims", (token) => {
    expect(claimsOf(token)).toBeUndefined();
  });
});
