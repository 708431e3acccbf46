// A body into the store, repeated when that helps.

import { Backoff, isOffline, sleepOrOnline, untilOnline } from "./backoff.js";
import { StoreFailed } from "./errors.js";
import type { PresignedRequest } from "./gen/assetlane/v1/upload_pb.js";
import type { OnSent, SendToStore, StoreAnswer } from "./store.js";

const ATTEMPTS = 8;
/** Of one URL: a slow way to the store may outlive several signatures. */
const RENEWALS = 5;
const FIRST_DELAY_MS = 200;
const LONGEST_DELAY_MS = 10_000;
const REPEATABLE = new Set([408, 409, 425, 429]);
const REPEATABLE_CODES = new Set(["RequestTimeout"]); // S3 sends it as 400
const STALE_CODES = new Set(["ExpiredToken"]); // likewise

export interface Transfer {
  readonly send: SendToStore;
  /** Returns a freshly signed request for the same place. */
  readonly renew: () => Promise<PresignedRequest>;
  readonly onSent: OnSent;
  readonly signal: AbortSignal;
  /** How often a request without an answer, or a busy store, is tried. */
  readonly attempts?: number;
  readonly wait?: (ms: number, signal: AbortSignal) => Promise<void>;
}

/**
 * Puts a body and returns its entity tag once the store has it.
 *
 * No answer, 5xx, 408, 409 and 429 are repeated. A refused signature (403) is renewed. 412 says that an object is
 * there already: an earlier try arrived after all, and CompleteUpload proves that it is the right one.
 * Throws StoreFailed, the signal's reason, and what `renew` throws.
 */
export async function put(first: PresignedRequest, body: Blob, transfer: Transfer): Promise<string> {
  const { send, renew, onSent, signal, attempts = ATTEMPTS, wait = sleepOrOnline } = transfer;
  const backoff = new Backoff(FIRST_DELAY_MS, LONGEST_DELAY_MS);
  let request = first;
  let renewals = 0;
  for (let failures = 0; ; ) {
    const answer = await send(request, body, onSent, signal);
    if ((answer.status >= 200 && answer.status < 300) || answer.status === 412) {
      onSent(body.size);
      return answer.etag;
    }
    if (isStale(answer) && (renewals === 0 || (renewals < RENEWALS && ranOut(request)))) {
      renewals += 1;
      request = await renew();
      continue;
    }
    if (!isRepeatable(answer)) {
      throw new StoreFailed("STORE_REFUSED", `The store answered ${answer.status} ${answer.code}`.trim(), answer.status, answer.code);
    }
    if (answer.status === 0 && isOffline()) {
      onSent(0);
      await untilOnline(signal); // is no try: it takes as long as it takes
      continue;
    }
    failures += 1;
    if (failures >= attempts) throw unreachable(answer, failures);
    onSent(0);
    await wait(backoff.next(), signal);
  }
}

function isStale({ status, code }: StoreAnswer): boolean {
  return status === 403 || STALE_CODES.has(code);
}

function isRepeatable({ status, code }: StoreAnswer): boolean {
  return status === 0 || status >= 500 || REPEATABLE.has(status) || REPEATABLE_CODES.has(code);
}

function ranOut({ expireTime }: PresignedRequest): boolean {
  return expireTime !== undefined && Number(expireTime.seconds) * 1000 <= Date.now();
}

function unreachable({ status, code }: StoreAnswer, tries: number): StoreFailed {
  const last = status
    ? `the last was answered with ${status} ${code}`.trim()
    : "no answer came; is the store online, and does its CORS rule allow this page's origin (`assetlane-server doctor` says)?";
  return new StoreFailed("STORE_UNREACHABLE", `The store did not take the object in ${tries} tries: ${last}`, status, code);
}
