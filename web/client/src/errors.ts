// Everything the client throws: each error has a stable `reason` to match on.

import { Code, ConnectError } from "@connectrpc/connect";

import { BadRequestSchema, ErrorInfoSchema, PreconditionFailureSchema, QuotaFailureSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import type { Upload } from "./gen/assetlane/v1/upload_pb.js";

/** The reasons of failed calls that the contract names. */
export const CALL_REASONS = [
  "ASSET_NOT_FOUND", "CALL_RATE_EXCEEDED", "INVALID_FIELD", "KEYS_UNAVAILABLE", "LEDGER_UNAVAILABLE",
  "MESSAGE_LATE", "MESSAGE_MALFORMED", "MESSAGE_TOO_LARGE", "PARTITION_NOT_FOUND", "PARTITION_READ_ONLY",
  "REQUEST_ID_REUSED", "RESUME_EXPIRED", "REVISION_AHEAD", "SHUTTING_DOWN", "STORE_UNAVAILABLE",
  "TOKEN_EXPIRED", "TOKEN_INVALID", "TOKEN_MISSING", "TOKEN_NOT_YET_VALID", "TOKEN_TOO_LARGE",
  "TOO_MANY_BYTES", "TOO_MANY_CALLS", "TOO_MANY_UPLOADS", "TOO_MANY_WATCHES", "TOO_MANY_WATCHES_OF_ONE",
  "UID_MISMATCH", "UPLOAD_CANCELLED", "UPLOAD_COMPLETED", "UPLOAD_EXPIRED", "UPLOAD_FAILED",
  "UPLOAD_NOT_FOUND", "UPLOAD_PENDING", "UPLOAD_UPLOADED", "VARIANTS_MISSING",
] as const;

/** The reasons of uploads that FAILED, as the contract names them. */
export const UPLOAD_REASONS = [
  "CHECKSUM_MISMATCH", "CONTENT_TYPE_MISMATCH", "CUTTING_CRASHED", "CUTTING_TIMED_OUT", "HEADER_NOT_PROMISED",
  "IMAGE_BROKEN", "IMAGE_EMPTY", "IMAGE_EXTRA_MISSING", "IMAGE_MISLABELLED", "IMAGE_TOO_LARGE",
  "IMAGE_UNRECOGNIZED", "PARTS_REFUSED", "SIZE_MISMATCH", "VARIANT_LOST",
] as const;

/** The reasons that this client gives itself. */
export const CLIENT_REASONS = [
  "CANCELLED", "CLIENT_TOO_OLD", "FILE_UNREADABLE", "SERVER_UNREACHABLE", "STORE_REFUSED", "STORE_UNREACHABLE", "TOKEN_UNAVAILABLE",
] as const;

export type CallReason = (typeof CALL_REASONS)[number];
export type UploadReason = (typeof UPLOAD_REASONS)[number];
export type ClientReason = (typeof CLIENT_REASONS)[number];
/** Known reasons complete in an editor; a newer server may send others. */
export type Reason = CallReason | UploadReason | ClientReason | (string & {});

/** Something that was asked of Assetlane did not happen. `message` is for people, may change, and holds no signed URL. */
export class AssetlaneError<R extends Reason = Reason> extends Error {
  override readonly name: string = "AssetlaneError";

  constructor(
    /** UPPER_SNAKE and stable: match on this. */
    readonly reason: R,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  /** Whether the same call may succeed later. */
  get isTemporary(): boolean {
    return false;
  }
}

/** The server answered a call with an error, or could not be reached. */
export class CallFailed extends AssetlaneError {
  override readonly name = "CallFailed";

  constructor(
    reason: Reason,
    message: string,
    /** The canonical status. */
    readonly code: Code,
    /** Of INVALID_FIELD: the path of each bad field, and what is wrong with it. */
    readonly fields: Readonly<Record<string, string>> = {},
    /** Of VARIANTS_MISSING the variants, of a quota what it is counted for. */
    readonly subjects: readonly string[] = [],
    /** Milliseconds that the server asks to wait; undefined: it does not say. */
    readonly retryAfterMs: number | undefined = undefined,
    options?: ErrorOptions,
  ) {
    super(reason, message, options);
  }

  override get isTemporary(): boolean {
    if (this.code === Code.ResourceExhausted) return this.retryAfterMs !== undefined;
    return TEMPORARY.has(this.code);
  }
}

const TEMPORARY = new Set([Code.Unavailable, Code.Aborted, Code.DeadlineExceeded, Code.Canceled]);

/** What arrived is not what was promised, or the upload ended in another way without an asset. */
export class UploadFailed extends AssetlaneError {
  override readonly name = "UploadFailed";

  constructor(
    reason: Reason,
    message: string,
    /** The upload as the server has it. */
    readonly upload: Upload | undefined,
  ) {
    super(reason, message);
  }
}

/** The object store refused a request, or could not be reached. */
export class StoreFailed extends AssetlaneError<"STORE_REFUSED" | "STORE_UNREACHABLE"> {
  override readonly name = "StoreFailed";

  constructor(
    reason: "STORE_REFUSED" | "STORE_UNREACHABLE",
    message: string,
    /** The HTTP status of the last answer; 0: there was none. */
    readonly status: number,
    /** The store's own error code, such as `AccessDenied`; empty: it gave none. */
    readonly storeCode: string,
  ) {
    super(reason, message);
  }

  override get isTemporary(): boolean {
    return this.reason === "STORE_UNREACHABLE";
  }
}

/** The caller cancelled the work. */
export class Cancelled extends AssetlaneError<"CANCELLED"> {
  override readonly name = "Cancelled";

  constructor(message = "cancelled by the caller") {
    super("CANCELLED", message);
  }
}

/** Whether an error has this reason. */
export function hasReason<R extends Reason>(error: unknown, reason: R): error is AssetlaneError<R> {
  return error instanceof AssetlaneError && error.reason === reason;
}

/** Returns the error of a call that a transport threw. */
export function callFailed(thrown: unknown): CallFailed {
  const error = ConnectError.from(thrown, Code.Unavailable);
  const retry = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  const fields: Record<string, string> = {};
  for (const detail of error.findDetails(BadRequestSchema)) {
    for (const { field, description } of detail.fieldViolations) fields[field] = description;
  }
  const subjects = [
    ...error.findDetails(PreconditionFailureSchema).flatMap((detail) => detail.violations),
    ...error.findDetails(QuotaFailureSchema).flatMap((detail) => detail.violations),
  ].map(({ subject }) => subject);
  const reason = error.findDetails(ErrorInfoSchema)[0]?.reason ?? "";
  return new CallFailed(
    // Without a reason no server of ours answered: the network, a proxy, or the browser's CORS check.
    reason || (isNetwork(error) ? "SERVER_UNREACHABLE" : screaming(Code[error.code])),
    error.rawMessage,
    // A fetch that fails has no code of its own: connect says Unknown or Internal of it.
    !reason && isNetwork(error) ? Code.Unavailable : error.code,
    fields,
    subjects,
    retry && Number(retry.seconds) * 1000 + retry.nanos / 1e6,
    { cause: thrown },
  );
}

function isNetwork(error: ConnectError): boolean {
  if (error.code === Code.Unavailable) return true;
  // Browsers throw TypeError for every fetch that got no answer, and for a body that broke off.
  return (error.code === Code.Unknown || error.code === Code.Internal) && error.cause instanceof TypeError;
}

function screaming(camel: string): string {
  return camel.replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
}
