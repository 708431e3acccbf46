// A server and a store in memory: the generated services behind a transport that makes no request.

import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, createRouterTransport, type ConnectRouter } from "@connectrpc/connect";

import type { Connection } from "../src/calls.js";
import { Connection as RealConnection } from "../src/calls.js";
import { AccessService } from "../src/gen/assetlane/v1/access_service_pb.js";
import { AssetService } from "../src/gen/assetlane/v1/asset_service_pb.js";
import { UploadService } from "../src/gen/assetlane/v1/upload_service_pb.js";
import { ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import type { Token } from "../src/tokens.js";
import type { SendToStore, StoreAnswer } from "../src/store.js";

/** An error as the server sends it. */
export function refusal(code: Code, reason: string, retryMs?: number): ConnectError {
  const details = [{ desc: ErrorInfoSchema, value: create(ErrorInfoSchema, { reason, domain: "assetlane" }) }];
  const retry = retryMs === undefined ? [] : [{ desc: RetryInfoSchema, value: create(RetryInfoSchema, { retryDelay: { seconds: 0n, nanos: retryMs * 1e6 } }) }];
  return new ConnectError("refused", code, undefined, [...details, ...retry]);
}

/** A connection whose services are functions. */
export function connectionTo(routes: (router: ConnectRouter) => void, token?: Token): Connection {
  const connection = new RealConnection({ url: "http://server.test", token });
  const transport = createRouterTransport(routes);
  const access = createClient(AccessService, transport);
  return Object.assign(connection, { uploads: createClient(UploadService, transport), assets: createClient(AssetService, transport), access });
}

/** A store that gives these answers, one after the other, and remembers what it was sent. */
export function storeOf(...answers: (Partial<StoreAnswer> | (() => Partial<StoreAnswer>))[]): { send: SendToStore; urls: string[] } {
  const urls: string[] = [];
  const send: SendToStore = async (request, body, onSent, signal) => {
    signal.throwIfAborted();
    urls.push(request.url);
    const next = answers.shift() ?? { status: 200 };
    const answer = { status: 200, code: "", etag: "", ...(typeof next === "function" ? next() : next) };
    if (answer.status === 200) onSent(body.size);
    return answer;
  };
  return { send, urls };
}
