package assetlane.example;

import assetlane.v1.Asset;
import assetlane.v1.AssetVariant;
import assetlane.v1.CancelUploadRequest;
import assetlane.v1.CompleteUploadRequest;
import assetlane.v1.CompleteUploadResponse;
import assetlane.v1.CreateTokenRequest;
import assetlane.v1.CutMaker;
import assetlane.v1.CutPlan;
import assetlane.v1.DeleteAssetRequest;
import assetlane.v1.GetAssetRequest;
import assetlane.v1.GetUploadRequest;
import assetlane.v1.PartitionScope;
import assetlane.v1.RefreshAssetRequest;
import assetlane.v1.RequestUploadRequest;
import assetlane.v1.RequestUploadResponse;
import assetlane.v1.ScopedToken;
import assetlane.v1.TokenOptions;
import assetlane.v1.Upload;
import assetlane.v1.WriteTarget;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.Duration;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;

/**
 * Puts this package through the script in tests/conformance: a JSON object a line comes in, one goes out.
 * tests/conformance/README.md is the protocol.
 */
public final class Conformance {
  private Client client;
  private final Store store = new Store();
  private final Map<String, List<WriteTarget>> targets = new HashMap<>();
  private final Map<String, CompletableFuture<List<Map<String, Object>>>> watches = new HashMap<>();

  private Conformance(Client client) {
    this.client = client;
  }

  public static void main(String[] arguments) throws Exception {
    Gson gson = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    PrintStream answers = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    try (Client client = new Client()) {
      Conformance player = new Conformance(client);
      for (String line; (line = lines.readLine()) != null;) {
        JsonObject step = JsonParser.parseString(line).getAsJsonObject();
        Map<String, Object> answer = player.answer(step.get("do").getAsString(), step.getAsJsonObject("with"));
        answer.put("id", step.get("id").getAsInt());
        answers.println(gson.toJson(answer));
      }
    }
  }

  private Map<String, Object> answer(String verb, JsonObject given) {
    Map<String, Object> answer = new HashMap<>();
    try {
      answer.put("ok", play(verb, given));
    } catch (Exception error) {
      Throwable cause = error instanceof CompletionException ? error.getCause() : error;
      if (cause instanceof Refusal refusal) {
        answer.put("refused", Map.of("code", refusal.code().name(), "reason", refusal.reason(),
            "message", refusal.getMessage(), "fields", refusal.fields().keySet(), "subjects", refusal.subjects()));
      } else {
        answer.put("broken", String.valueOf(cause));
      }
    }
    return answer;
  }

  private Map<String, ?> play(String verb, JsonObject given) throws Exception {
    switch (verb) {
      case "hello":
        return Map.of("client", "java");
      case "request_upload":
        return requestUpload(given);
      case "put":
        return put(given);
      case "create_token":
        return Map.of("token", tokenOf(client.createToken(tokenRequest(given))));
      case "use_token":
        client = new Client(text(given, "token")); // until the program ends
        return Map.of();
      case "complete_upload": {
        CompleteUploadRequest request = CompleteUploadRequest.newBuilder().setUploadId(text(given, "upload_id")).build();
        CompleteUploadResponse reply = client.uploads(stub -> stub.completeUpload(request), Client.COMPLETE_LIMIT);
        Map<String, Object> fields = new HashMap<>(Map.of("upload", uploadOf(reply.getUpload())));
        fields.put("asset", reply.hasAsset() ? assetOf(reply.getAsset()) : null);
        return fields;
      }
      case "get_upload": {
        GetUploadRequest request = GetUploadRequest.newBuilder().setUploadId(text(given, "upload_id")).build();
        return Map.of("upload", uploadOf(client.uploads(stub -> stub.getUpload(request), Client.CALL_LIMIT).getUpload()));
      }
      case "cancel_upload": {
        CancelUploadRequest request = CancelUploadRequest.newBuilder().setUploadId(text(given, "upload_id")).build();
        return Map.of("upload", uploadOf(client.uploads(stub -> stub.cancelUpload(request), Client.CALL_LIMIT).getUpload()));
      }
      case "start_watch":
        return startWatch(given);
      case "finish_watch":
        return Map.of("events", watches.get(text(given, "watch")).join());
      case "read":
        return read(given);
      case "get_asset": {
        GetAssetRequest request = GetAssetRequest.newBuilder().setAssetId(text(given, "asset_id")).build();
        return Map.of("asset", assetOf(client.assets(stub -> stub.getAsset(request), Client.CALL_LIMIT).getAsset()));
      }
      case "refresh_asset": {
        RefreshAssetRequest request = RefreshAssetRequest.newBuilder().setAssetId(text(given, "asset_id")).build();
        return Map.of("asset", assetOf(client.assets(stub -> stub.refreshAsset(request), Client.CALL_LIMIT).getAsset()));
      }
      case "delete_asset": {
        DeleteAssetRequest request = DeleteAssetRequest.newBuilder().setAssetId(text(given, "asset_id")).build();
        client.assets(stub -> stub.deleteAsset(request), Client.CALL_LIMIT);
        return Map.of();
      }
      default:
        throw new IllegalArgumentException("this client does not know how to " + verb);
    }
  }

  private Map<String, ?> requestUpload(JsonObject given) throws Exception {
    RequestUploadRequest.Builder builder = RequestUploadRequest.newBuilder()
        .setRequestId(text(given, "request_id"))
        .setUid(uid(given))
        .setFilePath(text(given, "file_path"))
        .setPartition(text(given, "partition"))
        .addVariants(Store.promise(Path.of(text(given, "file")), text(given, "content_type")));
    if (given.has("expiration_hours")) {
      builder.setExpirationHours(given.get("expiration_hours").getAsDouble());
    }
    if (given.has("server_cuts")) {
      builder.setCutPlan(CutPlan.newBuilder().setMaker(CutMaker.CUT_MAKER_SERVER));
    }
    if (given.has("issue_token")) {
      builder.setIssueToken(TokenOptions.getDefaultInstance());
    }
    RequestUploadResponse reply = client.uploads(stub -> stub.requestUpload(builder.build()), Client.CALL_LIMIT);
    targets.put(reply.getUpload().getUploadId(), reply.getWriteTargetsList());
    Map<String, Object> fields = new HashMap<>(Map.of("upload", uploadOf(reply.getUpload()),
        "targets", reply.getWriteTargetsList().stream().map(WriteTarget::getVariant).toList()));
    fields.put("token", reply.hasToken() ? tokenOf(reply.getToken()) : null);
    return fields;
  }

  private CreateTokenRequest tokenRequest(JsonObject given) {
    CreateTokenRequest.Builder builder = CreateTokenRequest.newBuilder();
    if (given.has("upload_id")) {
      builder.setUploadId(text(given, "upload_id"));
    } else {
      builder.setUid(uid(given)).setPartitions(
          PartitionScope.newBuilder().addAllRead(texts(given, "read")).addAllWrite(texts(given, "write")));
    }
    if (given.has("lifetime_s")) {
      builder.setLifetime(Duration.newBuilder().setSeconds(given.get("lifetime_s").getAsLong()));
    }
    return builder.build();
  }

  private String uid(JsonObject given) {
    return given.has("uid") ? text(given, "uid") : client.uid();
  }

  private Map<String, ?> put(JsonObject given) throws Exception {
    try {
      for (WriteTarget target : targets.get(text(given, "upload_id"))) {
        store.put(target.getSinglePut(), Path.of(text(given, "file")));
      }
      return Map.of("stored", true);
    } catch (Store.Refused refused) {
      return Map.of("stored", false);
    }
  }

  private Map<String, ?> startWatch(JsonObject given) {
    CompletableFuture<Void> begun = new CompletableFuture<>();
    CompletableFuture<List<Map<String, Object>>> watch = CompletableFuture.supplyAsync(() -> {
      List<Map<String, Object>> events = new ArrayList<>();
      try {
        client.watch(text(given, "upload_id"), given.get("after_revision").getAsLong(), event -> {
          events.add(Map.of("revision", event.getUpload().getRevision(), "status", statusOf(event.getUpload())));
          begun.complete(null); // only the first counts
        });
      } catch (InterruptedException stopped) {
        throw new CompletionException(stopped);
      }
      return events;
    });
    watches.put(text(given, "watch"), watch);
    CompletableFuture.anyOf(begun, watch).join();
    return Map.of();
  }

  private Map<String, ?> read(JsonObject given) throws Exception {
    try {
      Store.Content content = store.read(text(given, "url"));
      return Map.of("http_status", 200, "size_bytes", content.sizeBytes(), "sha256", hex(content.sha256().toByteArray()));
    } catch (Store.Refused refused) {
      return Map.of("http_status", refused.status());
    }
  }

  private static String text(JsonObject given, String name) {
    return given.has(name) ? given.get(name).getAsString() : "";
  }

  private static List<String> texts(JsonObject given, String name) {
    return given.has(name) ? given.getAsJsonArray(name).asList().stream().map(JsonElement::getAsString).toList() : List.of();
  }

  private static String hex(byte[] bytes) {
    return HexFormat.of().formatHex(bytes);
  }

  private static String statusOf(Upload upload) {
    return upload.getStatus().name().replace("UPLOAD_STATUS_", "");
  }

  private static Map<String, ?> uploadOf(Upload upload) {
    return Map.of(
        "upload_id", upload.getUploadId(),
        "status", statusOf(upload),
        "revision", upload.getRevision(),
        "history", upload.getHistoryList().stream()
            .map(change -> change.getStatus().name().replace("UPLOAD_STATUS_", "")).toList(),
        "failure", upload.getFailure().getReason());
  }

  private static Map<String, ?> tokenOf(ScopedToken token) {
    return Map.of("token", token.getToken(), "expire_unix_s", token.getExpireTime().getSeconds());
  }

  private static Map<String, ?> assetOf(Asset asset) {
    Map<String, Object> fields = new HashMap<>();
    fields.put("asset_id", asset.getAssetId());
    fields.put("partition", asset.getPartition());
    fields.put("file_path", asset.getFilePath());
    fields.put("expire_unix_s", asset.hasExpireTime() ? asset.getExpireTime().getSeconds() : null);
    fields.put("revision", asset.getRevision());
    fields.put("variants", asset.getVariantsList().stream().map(Conformance::variantOf).toList());
    return fields;
  }

  private static Map<String, ?> variantOf(AssetVariant variant) {
    return Map.of(
        "name", variant.getName(),
        "content_type", variant.getContentType(),
        "size_bytes", variant.getSizeBytes(),
        "sha256", hex(variant.getSha256().toByteArray()),
        "width_px", variant.getWidthPx(),
        "height_px", variant.getHeightPx(),
        "read_url", variant.getReadUrl(),
        "download_url", variant.getDownloadUrl());
  }
}
