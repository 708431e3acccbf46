// What an application keeps of Assetlane: one connection, and calls with deadlines and repeats.

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { credentials, Metadata, type CallOptions, type ClientUnaryCall, type ServiceError } from "@grpc/grpc-js";

import { AccessServiceClient, type CreateTokenRequest, type ScopedToken } from "./gen/assetlane/v1/access_service.js";
import { AssetServiceClient } from "./gen/assetlane/v1/asset_service.js";
import { UploadServiceClient } from "./gen/assetlane/v1/upload_service.js";
import { Refusal } from "./refusal.js";

/** Milliseconds that a call has, its repeats included. */
export const CALL_LIMIT_MS = 30_000;
/** CompleteUpload has longer: the server looks at every object, and may be making cuts. */
export const COMPLETE_LIMIT_MS = 120_000;

const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5_000;

/** A generated method of a client, in the form that takes options. */
type Method<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

/**
 * A connection to an Assetlane server: keep one per process.
 *
 * The environment says where to and as whom: ASSETLANE_TARGET (127.0.0.1:50151), ASSETLANE_UID (ann),
 * ASSETLANE_TOKEN (a bearer token), and ASSETLANE_CA_FILE, a PEM file with the certificates to trust, which turns TLS on.
 */
export class Client {
  readonly uid = process.env.ASSETLANE_UID || "ann";
  readonly uploads: UploadServiceClient;
  readonly assets: AssetServiceClient;
  readonly access: AccessServiceClient;

  /** With this bearer token, such as the scoped token that a back end has made for a device. */
  constructor(private readonly token = process.env.ASSETLANE_TOKEN) {
    const target = process.env.ASSETLANE_TARGET || "127.0.0.1:50151";
    const ca = process.env.ASSETLANE_CA_FILE;
    const transport = ca ? credentials.createSsl(readFileSync(ca)) : credentials.createInsecure();
    // Notices a server that is gone without a word. The server allows a ping every ten seconds.
    const options = { "grpc.keepalive_time_ms": 30_000, "grpc.keepalive_timeout_ms": 10_000 };
    this.uploads = new UploadServiceClient(target, transport, options);
    this.assets = new AssetServiceClient(target, transport, options); // shares the connection
    this.access = new AccessServiceClient(target, transport, options);
  }

  close(): void {
    this.uploads.close();
    this.assets.close();
    this.access.close();
  }

  /** What goes with every call. Without TLS the token travels in the clear: for loopback only. */
  metadata(): Metadata {
    const metadata = new Metadata();
    if (this.token) metadata.set("authorization", `Bearer ${this.token}`);
    return metadata;
  }

  /**
   * Makes a scoped token for a device: for one upload, or for a user's partitions. Only a service caller of the server's
   * policy makes tokens. A new upload brings one along: `issueToken` of its request. Throws Refusal.
   */
  async createToken(request: CreateTokenRequest): Promise<ScopedToken> {
    return (await this.call(this.access, this.access.createToken, request)).token!;
  }

  /**
   * Makes a call, and makes it again while the server is unavailable or busy, until the limit is over: every RPC of
   * Assetlane is safe to repeat. Throws Refusal.
   */
  async call<Request, Response>(
    client: UploadServiceClient | AssetServiceClient | AccessServiceClient,
    method: Method<Request, Response>,
    request: Request,
    limitMs = CALL_LIMIT_MS,
  ): Promise<Response> {
    const deadline = Date.now() + limitMs;
    for (let failures = 0; ; failures++) {
      try {
        return await new Promise<Response>((resolve, reject) => {
          method.call(client, request, this.metadata(), { deadline }, (error, response) =>
            error ? reject(error) : resolve(response),
          );
        });
      } catch (error) {
        const refusal = Refusal.of(error as ServiceError);
        const pauseMs = pauseAfter(failures, refusal.retryAfterMs);
        if (!refusal.isTemporary || Date.now() + pauseMs >= deadline) throw refusal;
        await sleep(pauseMs);
      }
    }
  }
}

/**
 * Milliseconds to wait: what the server asked for, and a random time on top that grows with every failure, so that
 * callers who were sent away together do not come back together.
 */
export function pauseAfter(failures: number, atLeastMs: number): number {
  return atLeastMs + Math.random() * Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures);
}
