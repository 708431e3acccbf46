package assetlane.example;

import assetlane.v1.Asset;
import assetlane.v1.AssetVariant;
import assetlane.v1.CompleteUploadRequest;
import assetlane.v1.CompleteUploadResponse;
import assetlane.v1.CutMaker;
import assetlane.v1.CutPlan;
import assetlane.v1.PresignedRequest;
import assetlane.v1.RefreshAssetRequest;
import assetlane.v1.RequestUploadRequest;
import assetlane.v1.RequestUploadResponse;
import assetlane.v1.WriteTarget;
import java.io.IOException;
import java.net.URLConnection;
import java.nio.file.Path;
import java.time.Instant;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** Brings one file in, watches it arrive, reads it back, and renews its read URLs. */
public final class Main {
  private final Client client;
  private final Store store = new Store();

  private Main(Client client) {
    this.client = client;
  }

  public static void main(String[] arguments) throws Exception {
    if (arguments.length != 1) {
      System.err.println("usage: mvn -q compile exec:java -Dexec.args=FILE");
      System.exit(2);
    }
    try (Client client = new Client()) {
      new Main(client).run(Path.of(arguments[0]));
    } catch (Refusal refusal) {
      System.err.printf("%s (%s)%n", refusal.getMessage(), refusal.reason());
      System.exit(1);
    }
  }

  private void run(Path file) throws Exception {
    Asset asset = bringIn(file);
    for (AssetVariant variant : asset.getVariantsList()) {
      Store.Content content = store.read(variant.getReadUrl());
      if (!variant.getSha256().isEmpty() && !variant.getSha256().equals(content.sha256())) {
        throw new IOException(variant.getName() + " came back as other bytes");
      }
      System.out.printf("  %-9s %s, %d x %d, %d bytes, read back%n", variant.getName(), variant.getContentType(),
          variant.getWidthPx(), variant.getHeightPx(), content.sizeBytes());
    }
    // Read URLs run out. A refresh gives new ones, for everybody.
    RefreshAssetRequest request = RefreshAssetRequest.newBuilder().setAssetId(asset.getAssetId()).build();
    Asset refreshed = client.assets(stub -> stub.refreshAsset(request), Client.CALL_LIMIT).getAsset();
    System.out.printf("asset %s reads until %s%n", asset.getAssetId(),
        Instant.ofEpochSecond(refreshed.getExpireTime().getSeconds()));
  }

  /** Takes a file through the whole life of an upload. */
  private Asset bringIn(Path file) throws Exception {
    String guessed = URLConnection.guessContentTypeFromName(file.getFileName().toString());
    String contentType = guessed == null ? "application/octet-stream" : guessed;
    RequestUploadRequest.Builder builder = RequestUploadRequest.newBuilder()
        .setRequestId(UUID.randomUUID().toString()) // makes the call safe to repeat; keep it to go on after a crash
        .setUid(client.uid())
        .setFilePath("examples/java/" + file.getFileName())
        .addVariants(Store.promise(file, contentType));
    if (contentType.startsWith("image/")) { // the server cuts pictures: no image library is wanted here
      builder.setCutPlan(CutPlan.newBuilder().setMaker(CutMaker.CUT_MAKER_SERVER));
    }
    RequestUploadRequest request = builder.build();
    RequestUploadResponse reply = client.uploads(stub -> stub.requestUpload(request), Client.CALL_LIMIT);
    String uploadId = reply.getUpload().getUploadId();

    // A watch beside the work: here it only prints. A web page would follow it from another process.
    ExecutorService beside = Executors.newSingleThreadExecutor();
    try {
      Future<?> watching = beside.submit(watching(uploadId));
      for (WriteTarget target : reply.getWriteTargetsList()) {
        put(request, target, file);
      }
      CompleteUploadRequest complete = CompleteUploadRequest.newBuilder().setUploadId(uploadId).build();
      CompleteUploadResponse completed =
          client.uploads(stub -> stub.completeUpload(complete), Client.COMPLETE_LIMIT);
      watching.get();
      if (!completed.hasAsset()) { // a failed upload is data, not a failed call
        throw new IOException("the upload failed: " + completed.getUpload().getFailure().getMessage());
      }
      return completed.getAsset();
    } catch (ExecutionException error) {
      throw error.getCause() instanceof Refusal refusal ? refusal : error;
    } finally {
      beside.shutdownNow(); // interrupts a watch that is no longer wanted
    }
  }

  private Callable<Void> watching(String uploadId) {
    return () -> {
      client.watch(uploadId, 0, event ->
          System.out.printf("%d %s%n", event.getUpload().getRevision(), event.getUpload().getStatus()));
      return null;
    };
  }

  /** Sends the file, once more with a fresh signature when the first ran out meanwhile. */
  private void put(RequestUploadRequest request, WriteTarget target, Path file) throws Exception {
    try {
      store.put(single(target), file);
    } catch (Store.Refused refused) {
      if (!refused.isStale()) {
        throw refused;
      }
      // The same request id: the same upload, signed again.
      for (WriteTarget fresh : client.uploads(stub -> stub.requestUpload(request), Client.CALL_LIMIT).getWriteTargetsList()) {
        if (fresh.getVariant().equals(target.getVariant())) {
          store.put(single(fresh), file);
          return;
        }
      }
      throw refused;
    }
  }

  private static PresignedRequest single(WriteTarget target) throws IOException {
    if (!target.hasSinglePut()) {
      throw new IOException(target.getVariant() + " is too large for this example: it does not send parts");
    }
    return target.getSinglePut();
  }
}
