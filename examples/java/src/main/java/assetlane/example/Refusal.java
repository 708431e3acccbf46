package assetlane.example;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.PreconditionFailure;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** A call that the server, or the way there, refused; read from the trailer grpc-status-details-bin. */
public final class Refusal extends RuntimeException {
  private static final long serialVersionUID = 1L;

  private final Status.Code code;
  private String reason = "";
  private Duration retryAfter = Duration.ZERO;
  private final transient Map<String, String> fields = new LinkedHashMap<>();
  private final transient List<String> subjects = new ArrayList<>();

  Refusal(StatusRuntimeException error) {
    super(error.getMessage(), error);
    code = error.getStatus().getCode();
    com.google.rpc.Status status = StatusProto.fromThrowable(error);
    if (status == null) {
      return; // no server answered
    }
    try {
      for (Any detail : status.getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          reason = detail.unpack(ErrorInfo.class).getReason();
        } else if (detail.is(BadRequest.class)) {
          detail.unpack(BadRequest.class).getFieldViolationsList()
              .forEach(violation -> fields.put(violation.getField(), violation.getDescription()));
        } else if (detail.is(PreconditionFailure.class)) {
          detail.unpack(PreconditionFailure.class).getViolationsList()
              .forEach(violation -> subjects.add(violation.getSubject()));
        } else if (detail.is(RetryInfo.class)) {
          com.google.protobuf.Duration delay = detail.unpack(RetryInfo.class).getRetryDelay();
          retryAfter = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
        }
      }
    } catch (InvalidProtocolBufferException broken) {
      throw new IllegalStateException("the error's details are broken", broken);
    }
  }

  /** The canonical status code. */
  public Status.Code code() {
    return code;
  }

  /** Stable: match on this, never on the message. Empty when no server answered. */
  public String reason() {
    return reason;
  }

  /** Of INVALID_ARGUMENT: field to what is wrong with it. */
  public Map<String, String> fields() {
    return fields;
  }

  /** Of FAILED_PRECONDITION: of VARIANTS_MISSING the variants. */
  public List<String> subjects() {
    return subjects;
  }

  /** How long the server asks to wait; zero: it does not say. */
  public Duration retryAfter() {
    return retryAfter;
  }

  /** Whether the same call may succeed later. */
  public boolean isTemporary() {
    return code == Status.Code.UNAVAILABLE
        || code == Status.Code.RESOURCE_EXHAUSTED && !retryAfter.isZero();
  }
}
