package assetlane.example;

import assetlane.v1.AccessServiceGrpc;
import assetlane.v1.AccessServiceGrpc.AccessServiceBlockingStub;
import assetlane.v1.AssetServiceGrpc;
import assetlane.v1.AssetServiceGrpc.AssetServiceBlockingStub;
import assetlane.v1.CreateTokenRequest;
import assetlane.v1.ScopedToken;
import assetlane.v1.StatusEvent;
import assetlane.v1.UploadServiceGrpc;
import assetlane.v1.UploadServiceGrpc.UploadServiceBlockingStub;
import assetlane.v1.WatchUploadRequest;
import assetlane.v1.WatchUploadResponse;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.stub.AbstractStub;
import io.grpc.stub.MetadataUtils;
import java.io.File;
import java.io.IOException;
import java.time.Duration;
import java.util.Iterator;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.function.Function;

/**
 * What an application keeps of Assetlane: one connection, calls with deadlines and repeats, and the watch.
 * Safe for many threads; keep one per process.
 *
 * <p>The environment says where to and as whom: ASSETLANE_TARGET (127.0.0.1:50151), ASSETLANE_UID (ann),
 * ASSETLANE_TOKEN (a bearer token), and ASSETLANE_CA_FILE, a PEM file with the certificates to trust, which turns TLS on.
 */
public final class Client implements AutoCloseable {
  /** The time that a call has, its repeats included. */
  public static final Duration CALL_LIMIT = Duration.ofSeconds(30);

  /** CompleteUpload has longer: the server looks at every object, and may be making cuts. */
  public static final Duration COMPLETE_LIMIT = Duration.ofMinutes(2);

  private static final Duration FIRST_PAUSE = Duration.ofMillis(200);
  private static final Duration LONGEST_PAUSE = Duration.ofSeconds(5);

  private final ManagedChannel channel;
  private final UploadServiceBlockingStub uploads;
  private final AssetServiceBlockingStub assets;
  private final AccessServiceBlockingStub access;
  private final String uid = environment("ASSETLANE_UID", "ann");

  public Client() throws IOException {
    this(environment("ASSETLANE_TOKEN", ""));
  }

  /** With this bearer token, such as the scoped token that a back end has made for a device. */
  public Client(String token) throws IOException {
    String ca = environment("ASSETLANE_CA_FILE", "");
    ChannelCredentials transport = ca.isEmpty()
        ? InsecureChannelCredentials.create()
        : TlsChannelCredentials.newBuilder().trustManager(new File(ca)).build();
    channel = Grpc.newChannelBuilder(environment("ASSETLANE_TARGET", "127.0.0.1:50151"), transport)
        // Notices a server that is gone without a word. The server allows a ping every ten seconds.
        .keepAliveTime(30, TimeUnit.SECONDS)
        .keepAliveTimeout(10, TimeUnit.SECONDS)
        .build();
    uploads = withToken(UploadServiceGrpc.newBlockingStub(channel), token);
    assets = withToken(AssetServiceGrpc.newBlockingStub(channel), token);
    access = withToken(AccessServiceGrpc.newBlockingStub(channel), token);
  }

  public String uid() {
    return uid;
  }

  /** A call of the UploadService, such as {@code client.uploads(stub -> stub.getUpload(request), CALL_LIMIT)}. */
  public <T> T uploads(Function<UploadServiceBlockingStub, T> call, Duration limit) throws InterruptedException {
    return repeated(uploads, call, limit);
  }

  /** A call of the AssetService. */
  public <T> T assets(Function<AssetServiceBlockingStub, T> call, Duration limit) throws InterruptedException {
    return repeated(assets, call, limit);
  }

  /**
   * Makes a scoped token for a device: for one upload, or for a user's partitions. Only a service caller of the server's
   * policy makes tokens. A new upload brings one along: {@code RequestUploadRequest.setIssueToken}. Throws Refusal.
   */
  public ScopedToken createToken(CreateTokenRequest request) throws InterruptedException {
    return repeated(access, stub -> stub.createToken(request), CALL_LIMIT).getToken();
  }

  /**
   * Passes on every status change of an upload after a revision, once and in order, and returns after the final one.
   * Goes on by itself when the connection or the server is lost: the last revision seen is all it takes.
   * Interrupt the thread to stop it. Throws Refusal.
   */
  public void watch(String uploadId, long afterRevision, Consumer<StatusEvent> listener) throws InterruptedException {
    long seen = afterRevision;
    for (int failures = 0;; failures++) {
      WatchUploadRequest request =
          WatchUploadRequest.newBuilder().setUploadId(uploadId).setAfterRevision(seen).build();
      try {
        // No deadline: heartbeats and keepalive notice a peer that is gone.
        Iterator<WatchUploadResponse> events = uploads.watchUpload(request);
        while (events.hasNext()) {
          WatchUploadResponse event = events.next();
          if (event.hasStatus()) { // heartbeats, progress and kinds of a later server are not for us
            seen = event.getStatus().getUpload().getRevision();
            failures = 0;
            listener.accept(event.getStatus());
          }
        }
        return;
      } catch (StatusRuntimeException error) {
        Refusal refusal = new Refusal(error);
        if (!refusal.isTemporary()) {
          throw refusal;
        }
        Thread.sleep(pause(failures, refusal.retryAfter()).toMillis());
      }
    }
  }

  @Override
  public void close() {
    channel.shutdownNow();
  }

  /**
   * Makes a call, and makes it again while the server is unavailable or busy, until the limit is over: every RPC of
   * Assetlane is safe to repeat. Throws Refusal.
   */
  private static <S extends AbstractStub<S>, T> T repeated(S stub, Function<S, T> call, Duration limit)
      throws InterruptedException {
    long end = System.nanoTime() + limit.toNanos();
    for (int failures = 0;; failures++) {
      try {
        return call.apply(stub.withDeadlineAfter(end - System.nanoTime(), TimeUnit.NANOSECONDS));
      } catch (StatusRuntimeException error) {
        Refusal refusal = new Refusal(error);
        Duration pause = pause(failures, refusal.retryAfter());
        if (!refusal.isTemporary() || System.nanoTime() + pause.toNanos() >= end) {
          throw refusal;
        }
        Thread.sleep(pause.toMillis());
      }
    }
  }

  /**
   * Returns what the server asked for, and a random time on top that grows with every failure, so that callers who
   * were sent away together do not come back together.
   */
  static Duration pause(int failures, Duration atLeast) {
    long ceiling = Math.min(LONGEST_PAUSE.toMillis(), FIRST_PAUSE.toMillis() << Math.min(failures, 10));
    return atLeast.plusMillis(ThreadLocalRandom.current().nextLong(ceiling));
  }

  /** Sends the token with every call. Without TLS it travels in the clear: for loopback only. */
  private static <S extends AbstractStub<S>> S withToken(S stub, String token) {
    if (token.isEmpty()) {
      return stub;
    }
    Metadata headers = new Metadata();
    headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + token);
    return stub.withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers));
  }

  private static String environment(String name, String otherwise) {
    String value = System.getenv(name);
    return value == null || value.isEmpty() ? otherwise : value;
  }
}
