// Calls of the server: with the token, a limit, and repeats where they help. Every RPC is safe to repeat.

import { Code, createClient, type CallOptions, type Client, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";

import { anySignal, Backoff, isOffline, sleepOrOnline, untilOnline } from "./backoff.js";
import { CallFailed, callFailed, Cancelled } from "./errors.js";
import { AccessService } from "./gen/assetlane/v1/access_service_pb.js";
import { AssetService } from "./gen/assetlane/v1/asset_service_pb.js";
import { UploadService } from "./gen/assetlane/v1/upload_service_pb.js";
import { Tokens, type Token } from "./tokens.js";

const CALL_LIMIT_MS = 30_000;
const FIRST_DELAY_MS = 200;
const LONGEST_DELAY_MS = 5_000;

export interface ConnectionOptions {
  /** Where the server's web gateway (or Envoy before it) is, such as `https://files.example.com`. */
  readonly url: string;
  readonly token?: Token | undefined;
  /** Both work with the gateway; Envoy speaks gRPC-Web only. Default: `grpc-web`. */
  readonly protocol?: "grpc-web" | "connect" | undefined;
  /** React Native: `fetch` of `expo/fetch`, which streams. Default: the platform's. */
  readonly fetch?: typeof globalThis.fetch | undefined;
}

export interface LimitOptions {
  readonly signal?: AbortSignal | undefined;
  /** How long the call may take in all, repeats included. Default: 30,000. */
  readonly timeoutMs?: number | undefined;
  /** Whether time without a network does not count: the call waits until the browser is online. Default: false. */
  readonly waitsForNetwork?: boolean | undefined;
}

/** The services of one server, as generated, and what every call of them needs. */
export class Connection {
  readonly url: string;
  readonly uploads: Client<typeof UploadService>;
  readonly assets: Client<typeof AssetService>;
  readonly access: Client<typeof AccessService>;
  readonly tokens: Tokens;

  constructor(options: ConnectionOptions) {
    this.url = options.url.replace(/\/+$/, "");
    const fetch = options.fetch ?? ((...given: Parameters<typeof globalThis.fetch>) => globalThis.fetch(...given));
    const common = { baseUrl: this.url, fetch, useBinaryFormat: true };
    const transport: Transport = options.protocol === "connect" ? createConnectTransport(common) : createGrpcWebTransport(common);
    this.uploads = createClient(UploadService, transport);
    this.assets = createClient(AssetService, transport);
    this.access = createClient(AccessService, transport);
    this.tokens = new Tokens(options.token);
  }

  /** Returns the headers of a call, and the token in them. */
  async headers(): Promise<{ headers: Record<string, string>; token: string | undefined }> {
    const token = await this.tokens.get();
    return { headers: token ? { authorization: `Bearer ${token}` } : {}, token };
  }

  /**
   * Makes a call, again while the server is away or busy, until the limit is over; once more with another token when
   * the token was refused. Throws CallFailed, and Cancelled when the signal aborts.
   */
  async call<Response>(work: (options: CallOptions) => Promise<Response>, limits: LimitOptions = {}): Promise<Response> {
    const { signal, timeoutMs = CALL_LIMIT_MS, waitsForNetwork = false } = limits;
    let deadline = Date.now() + timeoutMs;
    const backoff = new Backoff(FIRST_DELAY_MS, LONGEST_DELAY_MS);
    for (let renewed = false; ; ) {
      if (signal?.aborted) throw new Cancelled();
      let token: string | undefined;
      let failed: CallFailed;
      try {
        const given = await this.headers();
        token = given.token;
        const options = { headers: given.headers, timeoutMs: Math.max(1, deadline - Date.now()) };
        return await work(signal ? { ...options, signal } : options);
      } catch (thrown) {
        if (signal?.aborted) throw new Cancelled();
        failed = thrown instanceof CallFailed ? thrown : callFailed(thrown);
      }
      if (failed.code === Code.Unauthenticated && this.tokens.canRenew && !renewed) {
        renewed = true;
        await this.tokens.refused(token);
        continue;
      }
      if (!failed.isTemporary) throw failed;
      try {
        if (waitsForNetwork && isOffline()) {
          await untilOnline(signal);
          deadline = Date.now() + timeoutMs;
          continue;
        }
        const pauseMs = backoff.next(failed.retryAfterMs);
        if (Date.now() + pauseMs >= deadline) throw failed;
        await sleepOrOnline(pauseMs, anySignal([signal]));
      } catch (error) {
        throw signal?.aborted ? new Cancelled() : error;
      }
    }
  }
}
