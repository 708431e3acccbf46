// What a call was refused with, read from the trailer grpc-status-details-bin.

import { status, type ServiceError } from "@grpc/grpc-js";

import { BadRequest, ErrorInfo, PreconditionFailure, RetryInfo } from "./gen/google/rpc/error_details.js";
import { Status } from "./gen/google/rpc/status.js";

/** A call that the server, or the way there, refused. */
export class Refusal extends Error {
  /** Stable: match on this, never on the message. Empty when no server answered. */
  reason = "";
  /** Of INVALID_ARGUMENT: field to what is wrong with it. */
  fields: Record<string, string> = {};
  /** Of FAILED_PRECONDITION: of VARIANTS_MISSING the variants. */
  subjects: string[] = [];
  /** How long the server asks to wait, 0: it does not say. */
  retryAfterMs = 0;

  constructor(
    readonly code: status,
    message: string,
  ) {
    super(message);
  }

  /** The name of the status code, such as NOT_FOUND. */
  get codeName(): string {
    return status[this.code];
  }

  /** Whether the same call may succeed later. */
  get isTemporary(): boolean {
    return this.code === status.UNAVAILABLE || (this.code === status.RESOURCE_EXHAUSTED && this.retryAfterMs > 0);
  }

  static of(error: ServiceError): Refusal {
    const refusal = new Refusal(error.code, error.details);
    const [trailer] = error.metadata?.get("grpc-status-details-bin") ?? [];
    for (const detail of trailer instanceof Buffer ? Status.decode(trailer).details : []) {
      switch (detail.typeUrl) {
        case "type.googleapis.com/google.rpc.ErrorInfo":
          refusal.reason = ErrorInfo.decode(detail.value).reason;
          break;
        case "type.googleapis.com/google.rpc.BadRequest":
          for (const { field, description } of BadRequest.decode(detail.value).fieldViolations) {
            refusal.fields[field] = description;
          }
          break;
        case "type.googleapis.com/google.rpc.PreconditionFailure":
          refusal.subjects = PreconditionFailure.decode(detail.value).violations.map(({ subject }) => subject);
          break;
        case "type.googleapis.com/google.rpc.RetryInfo": {
          const { seconds = 0, nanos = 0 } = RetryInfo.decode(detail.value).retryDelay ?? {};
          refusal.retryAfterMs = seconds * 1000 + nanos / 1e6;
        }
      }
    }
    return refusal;
  }
}
