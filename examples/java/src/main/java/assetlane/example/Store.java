package assetlane.example;

import assetlane.v1.PresignedRequest;
import assetlane.v1.VariantPromise;
import com.google.protobuf.ByteString;
import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Duration;
import java.util.Set;

/** Bytes to the store and back. No exception of its own shows a URL: anybody who reads it could use it. */
public final class Store {
  private static final int PUT_ATTEMPTS = 5;
  private static final Duration PUT_LIMIT = Duration.ofMinutes(15); // the life of a write URL
  private static final Duration READ_LIMIT = Duration.ofMinutes(5);
  private static final Set<Integer> WORTH_ANOTHER_TRY = Set.of(408, 409, 429);

  /** HttpClient sets these itself and refuses to be given them; content-length is the body's, which was promised. */
  private static final Set<String> AUTOMATIC = Set.of("content-length", "host");

  private final HttpClient web = HttpClient.newBuilder()
      .version(HttpClient.Version.HTTP_1_1) // else a plain http:// URL is asked for an upgrade
      .connectTimeout(Duration.ofSeconds(15))
      .build();

  /** What the store answered to a PUT or GET that it did not carry out. */
  public static final class Refused extends IOException {
    private static final long serialVersionUID = 1L;
    private final int status;

    Refused(int status) {
      super("the store answered " + status);
      this.status = status;
    }

    public int status() {
      return status;
    }

    /** Whether a freshly signed URL may help. */
    public boolean isStale() {
      return status == 403;
    }
  }

  /** What stands behind a URL, or in a file. */
  public record Content(long sizeBytes, ByteString sha256) {}

  /** Sends a file exactly as it was signed, and again when the store or the way there is at fault. */
  public void put(PresignedRequest target, Path file) throws IOException, InterruptedException {
    // URI.create keeps the URL's own escapes; a constructor that takes it in pieces would not.
    HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(target.getUrl()))
        .timeout(PUT_LIMIT)
        .method(target.getMethod(), BodyPublishers.ofFile(file));
    target.getHeadersMap().forEach((name, value) -> {
      if (!AUTOMATIC.contains(name.toLowerCase())) {
        request.setHeader(name, value);
      }
    });
    for (int failures = 0;; failures++) {
      IOException fault;
      try {
        int status = web.send(request.build(), BodyHandlers.discarding()).statusCode();
        // 412: an earlier try arrived after all; CompleteUpload proves that it is the right object.
        if (status < 300 || status == 412) {
          return;
        }
        fault = new Refused(status);
        if (status < 500 && !WORTH_ANOTHER_TRY.contains(status)) {
          throw fault;
        }
      } catch (Refused refused) {
        throw refused;
      } catch (IOException lost) {
        fault = lost;
      }
      if (failures + 1 == PUT_ATTEMPTS) {
        throw fault;
      }
      Thread.sleep(Client.pause(failures, Duration.ZERO).toMillis());
    }
  }

  /** Reads what stands behind a read URL. */
  public Content read(String url) throws IOException, InterruptedException {
    HttpRequest request = HttpRequest.newBuilder(URI.create(url)).timeout(READ_LIMIT).build();
    HttpResponse<InputStream> response = web.send(request, BodyHandlers.ofInputStream());
    try (InputStream body = response.body()) {
      if (response.statusCode() != 200) {
        throw new Refused(response.statusCode());
      }
      return digested(body);
    }
  }

  /** Describes a file as RequestUpload wants it: the store will refuse any other bytes. */
  public static VariantPromise promise(Path file, String contentType) throws IOException {
    try (InputStream bytes = Files.newInputStream(file)) {
      Content content = digested(bytes);
      return VariantPromise.newBuilder()
          .setName("original")
          .setContentType(contentType)
          .setSizeBytes(content.sizeBytes())
          .setSha256(content.sha256())
          .build();
    }
  }

  private static Content digested(InputStream bytes) throws IOException {
    try {
      MessageDigest digest = MessageDigest.getInstance("SHA-256");
      byte[] piece = new byte[1 << 16];
      long size = 0;
      for (int read; (read = bytes.read(piece)) >= 0; size += read) {
        digest.update(piece, 0, read);
      }
      return new Content(size, ByteString.copyFrom(digest.digest()));
    } catch (NoSuchAlgorithmException impossible) {
      throw new AssertionError(impossible); // every Java has SHA-256
    }
  }
}
