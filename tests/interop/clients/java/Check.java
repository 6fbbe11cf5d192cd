import com.google.protobuf.Any;
import com.google.protobuf.Duration;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Context;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.protobuf.StatusProto;
import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.net.URI;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import tokenbroker.v1.TokenBrokerGrpc;
import tokenbroker.v1.TokenBrokerOuterClass.GetTokenRequest;
import tokenbroker.v1.TokenBrokerOuterClass.ReportRejectedRequest;
import tokenbroker.v1.TokenBrokerOuterClass.WatchTokenRequest;
import tokenbroker.v1.TokenBrokerOuterClass.WatchTokenResponse;

/** Makes the calls that it reads from standard input, and prints what each of them got. */
public final class Check {
  private static final int PATIENCE = 20_000;

  private final ManagedChannel channel;
  private final String destination;
  private final String argument;

  private Check(ManagedChannel channel, String destination, String argument) {
    this.channel = channel;
    this.destination = destination;
    this.argument = argument;
  }

  public static void main(String[] arguments) throws Exception {
    var lines = new BufferedReader(new InputStreamReader(System.in));
    for (var line = lines.readLine(); line != null; line = lines.readLine()) {
      var words = line.trim().split("\\s+");
      var channel = connect(words[1]);
      var check = new Check(channel, words[3], words[4]);
      String outcome;
      try {
        outcome = check.make(words[2]);
      } catch (StatusRuntimeException error) {
        outcome = described(error);
      }
      System.out.println(words[0] + " " + outcome);
      channel.shutdownNow();
    }
  }

  private static ManagedChannel connect(String who) throws Exception {
    var folder = System.getenv("INTEROP_FOLDER");
    var credentials =
        TlsChannelCredentials.newBuilder()
            .trustManager(new File(folder, "ca.pem"))
            .keyManager(new File(folder, who + ".pem"), new File(folder, who + ".key"))
            .build();
    var endpoint = URI.create(System.getenv("TOKEN_BROKER_ENDPOINT"));
    return Grpc.newChannelBuilder(endpoint.getAuthority(), credentials).build();
  }

  private static String described(Throwable error) {
    var reason = "-";
    var retry = "-";
    var status = StatusProto.fromThrowable(error);
    try {
      for (Any detail : status.getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          var info = detail.unpack(ErrorInfo.class);
          reason =
              info.getDomain().equals("tokenbroker")
                  ? info.getReason()
                  : "not ours: " + info.getDomain();
        }
        retry = detail.is(RetryInfo.class) ? "retry" : retry;
      }
    } catch (com.google.protobuf.InvalidProtocolBufferException malformed) {
      reason = "malformed";
    }
    return Status.fromThrowable(error).getCode() + " " + reason + " " + retry;
  }

  private String make(String method) throws Exception {
    return switch (method) {
      case "get" -> get();
      case "get-within" -> ask(Integer.parseInt(argument));
      case "get-for-ever" -> {
        TokenBrokerGrpc.newBlockingStub(channel).getToken(request().build());
        yield "OK";
      }
      case "get-often" -> {
        for (var n = 0; n < Integer.parseInt(argument); n++) {
          ask(PATIENCE);
        }
        yield "OK";
      }
      case "get-at-once" -> getAtOnce();
      case "watch" -> watch();
      case "watch-within" -> events(Integer.parseInt(argument), event -> "an event");
      case "watch-trouble" -> events(PATIENCE, Check::trouble);
      case "report" -> report();
      default -> throw new IllegalArgumentException(method);
    };
  }

  private GetTokenRequest.Builder request() {
    return GetTokenRequest.newBuilder().setDestinationId(destination);
  }

  private TokenBrokerGrpc.TokenBrokerBlockingStub within(int millis) {
    return TokenBrokerGrpc.newBlockingStub(channel)
        .withDeadlineAfter(millis, TimeUnit.MILLISECONDS);
  }

  private String get() {
    var request = request();
    if (!argument.equals("-")) {
      request.setMinValidity(Duration.newBuilder().setSeconds(Long.parseLong(argument)));
    }
    var token = within(PATIENCE).getToken(request.build());
    var whole =
        !token.getAccessToken().isEmpty()
            && !token.getTokenId().isEmpty()
            && token.getExpiresIn().getSeconds() > 0;
    return whole ? "OK " + token.getTokenType() : "incomplete";
  }

  private String ask(int millis) {
    within(millis).getToken(request().build());
    return "OK";
  }

  private String getAtOnce() throws InterruptedException {
    var stub =
        TokenBrokerGrpc.newFutureStub(channel).withDeadlineAfter(PATIENCE, TimeUnit.MILLISECONDS);
    var calls = new ArrayList<com.google.common.util.concurrent.ListenableFuture<?>>();
    for (var n = 0; n < Integer.parseInt(argument); n++) {
      calls.add(stub.getToken(request().build()));
    }
    var outcome = "OK";
    for (var call : calls) {
      try {
        call.get();
      } catch (ExecutionException error) {
        var answer = described(error.getCause());
        outcome = answer.startsWith("DEADLINE") ? outcome : answer;
      }
    }
    return outcome;
  }

  /** Reads events until one of them gives an outcome. */
  private String events(int millis, Function<WatchTokenResponse, String> outcomeOf) {
    try (var context = Context.current().withCancellation()) {
      var previous = context.attach();
      try {
        var request = WatchTokenRequest.newBuilder().setDestinationId(destination).build();
        var events = within(millis).watchToken(request);
        while (events.hasNext()) {
          var outcome = outcomeOf.apply(events.next());
          if (outcome != null) {
            return outcome;
          }
        }
        return "the end";
      } finally {
        context.detach(previous);
      }
    }
  }

  private String watch() {
    var ids = new ArrayList<String>();
    return events(
        PATIENCE,
        event -> {
          if (!event.hasToken()) {
            return event.getUnavailable().getReason();
          }
          ids.add(event.getToken().getTokenId());
          var enough = ids.size() == Integer.parseInt(argument);
          return enough ? "OK " + new HashSet<>(ids).size() : null;
        });
  }

  private static String trouble(WatchTokenResponse event) {
    if (event.hasToken()) {
      return "a token";
    }
    var retry = event.getUnavailable().hasRetryDelay() ? "retry" : "-";
    return "IN_BAND " + event.getUnavailable().getReason() + " " + retry;
  }

  private String report() {
    var first = within(PATIENCE).getToken(request().build()).getTokenId();
    var outcome = told(first);
    return events(
        PATIENCE,
        event -> {
          var successor = event.getToken().getTokenId();
          return !event.hasToken() || successor.equals(first)
              ? null
              : String.join(" ", outcome, told(first), told(successor));
        });
  }

  private String told(String tokenId) {
    var report =
        ReportRejectedRequest.newBuilder().setDestinationId(destination).setTokenId(tokenId);
    var outcome = within(PATIENCE).reportRejected(report.build()).getOutcome();
    return outcome.name().substring("REPORT_OUTCOME_".length());
  }
}
