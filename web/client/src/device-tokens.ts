// Scoped tokens for devices, made by a back end that the server's policy names as a service caller.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";

import type { Connection, LimitOptions } from "./calls.js";
import { AssetlaneError } from "./errors.js";
import { CreateTokenRequestSchema, type ScopedToken } from "./gen/assetlane/v1/access_service_pb.js";

/** What a token opens: one upload until its deadline, or a user's uploads and the assets in these partitions. */
export type TokenScope =
  | { readonly uploadId: string; readonly uid?: string | undefined }
  | { readonly uid: string; readonly read?: readonly string[] | undefined; readonly write?: readonly string[] | undefined };

export interface TokenLimits extends LimitOptions {
  /** From a minute to the server's limit. Default: an hour; of one upload until its deadline. */
  readonly lifetimeMs?: number | undefined;
}

/**
 * Makes a token for one device. Give it `token` and nothing else: anybody who has it can use it until `expireTime`.
 * A new upload brings one along: `issueToken` of its request. Throws CallFailed: RPC_NOT_ALLOWED for a user or a device,
 * UID_MISMATCH, SCOPE_TOO_WIDE, NO_SIGNING_KEY.
 */
export async function createToken(connection: Connection, scope: TokenScope, { lifetimeMs, ...limits }: TokenLimits = {}): Promise<ScopedToken> {
  const wanted: NonNullable<MessageInitShape<typeof CreateTokenRequestSchema>["scope"]> =
    "uploadId" in scope
      ? { case: "uploadId", value: scope.uploadId }
      : { case: "partitions", value: { read: [...(scope.read ?? [])], write: [...(scope.write ?? [])] } };
  const request = create(CreateTokenRequestSchema, {
    uid: scope.uid ?? "",
    scope: wanted,
    ...(lifetimeMs === undefined ? {} : { lifetime: durationFromMs(lifetimeMs) }),
  });
  const { token } = await connection.call((options) => connection.access.createToken(request, options), limits);
  if (!token) throw new AssetlaneError("CLIENT_TOO_OLD", "The server's answer has no token");
  return token;
}
