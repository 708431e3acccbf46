// A watch that goes on by itself.

import { setTimeout as sleep } from "node:timers/promises";
import type { ServiceError } from "@grpc/grpc-js";

import type { StatusEvent, WatchUploadResponse } from "./gen/assetlane/v1/upload_service.js";
import { pauseAfter, type Client } from "./client.js";
import { Refusal } from "./refusal.js";

/**
 * Yields every status change of an upload after a revision, once and in order, and ends after the final one.
 * It goes on when the connection or the server is lost: the last revision seen is all it takes. Throws Refusal.
 */
export async function* watchUpload(client: Client, uploadId: string, afterRevision = 0): AsyncGenerator<StatusEvent> {
  for (let failures = 0; ; failures++) {
    // No deadline: heartbeats and keepalive notice a peer that is gone.
    const stream = client.uploads.watchUpload(
      { target: { $case: "uploadId", value: uploadId }, afterRevision, afterRevisions: {} },
      client.metadata(),
    );
    try {
      for await (const { event } of stream as AsyncIterable<WatchUploadResponse>) {
        // Heartbeats, progress and kinds of a later server are not for us.
        if (event?.$case !== "status" || !event.value.upload) continue;
        afterRevision = event.value.upload.revision;
        failures = 0;
        yield event.value;
      }
      return;
    } catch (error) {
      const refusal = Refusal.of(error as ServiceError);
      if (!refusal.isTemporary) throw refusal;
      await sleep(pauseAfter(failures, refusal.retryAfterMs));
    } finally {
      stream.cancel(); // a reader may stop early
    }
  }
}
