import { create } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";

import { createToken } from "../src/device-tokens.js";
import { AccessService, CreateTokenResponseSchema, type CreateTokenRequest } from "../src/gen/assetlane/v1/access_service_pb.js";
import { connectionTo, refusal } from "./fakes.js";

function answering(...answers: (string | Error)[]) {
  const asked: CreateTokenRequest[] = [];
  const connection = connectionTo((router) =>
    router.service(AccessService, {
      createToken: (request) => {
        asked.push(request);
        const answer = answers.shift();
        if (answer instanceof Error) throw answer;
        return create(CreateTokenResponseSchema, answer ? { token: { token: answer, expireTime: { seconds: 7n } } } : {});
      },
    }),
  );
  return { asked, connection };
}

describe("a token for a device", () => {
  test("is for one upload, until its deadline unless said otherwise", async () => {
    const { asked, connection } = answering("abc");
    expect(await createToken(connection, { uploadId: "u1" })).toMatchObject({ token: "abc", expireTime: { seconds: 7n } });
    expect(asked[0]).toMatchObject({ uid: "", scope: { case: "uploadId", value: "u1" } });
    expect(asked[0]?.lifetime).toBeUndefined();
  });

  test("is for partitions of one user, and asked for again while the server is busy", async () => {
    const { asked, connection } = answering(refusal(Code.Unavailable, "SHUTTING_DOWN"), "abc");
    await createToken(connection, { uid: "ann", read: ["user/ann"] }, { lifetimeMs: 90_500 });
    expect(asked).toHaveLength(2);
    expect(asked[1]).toMatchObject({
      uid: "ann",
      scope: { case: "partitions", value: { read: ["user/ann"], write: [] } },
      lifetime: { seconds: 90n, nanos: 500_000_000 },
    });
  });

  test("is refused with the server's reason", async () => {
    const { connection } = answering(refusal(Code.PermissionDenied, "SCOPE_TOO_WIDE"));
    await expect(createToken(connection, { uid: "ann", read: ["**"] })).rejects.toMatchObject({ reason: "SCOPE_TOO_WIDE" });
  });

  test("is never an empty answer", async () => {
    const { connection } = answering("");
    await expect(createToken(connection, { uploadId: "u1" })).rejects.toMatchObject({ reason: "CLIENT_TOO_OLD" });
  });
});
