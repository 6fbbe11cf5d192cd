package example;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.RetryInfo;
import io.grpc.Context;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.protobuf.StatusProto;
import java.io.File;
import java.io.IOException;
import java.net.URI;
import java.time.Duration;
import java.time.Instant;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import tokenbroker.v1.TokenBrokerGrpc;
import tokenbroker.v1.TokenBrokerGrpc.TokenBrokerBlockingStub;
import tokenbroker.v1.TokenBrokerOuterClass.GetTokenRequest;
import tokenbroker.v1.TokenBrokerOuterClass.GetTokenResponse;
import tokenbroker.v1.TokenBrokerOuterClass.ReportOutcome;
import tokenbroker.v1.TokenBrokerOuterClass.ReportRejectedRequest;
import tokenbroker.v1.TokenBrokerOuterClass.WatchTokenRequest;

/** The tokens of one destination. */
public final class Broker implements AutoCloseable {
  /** For everything that one token takes. */
  private static final Duration PATIENCE = Duration.ofSeconds(10);

  private final ManagedChannel channel;
  private final String destination;

  public Broker(String destination) throws IOException {
    var credentials =
        TlsChannelCredentials.newBuilder()
            .trustManager(new File(System.getenv("TOKEN_BROKER_CA")))
            .keyManager(
                new File(System.getenv("TOKEN_BROKER_CERT")),
                new File(System.getenv("TOKEN_BROKER_KEY")))
            .build();
    var endpoint = URI.create(System.getenv("TOKEN_BROKER_ENDPOINT"));
    this.channel = Grpc.newChannelBuilder(endpoint.getAuthority(), credentials).build();
    this.destination = destination;
  }

  /** A token that is valid now. The broker is the cache: ask for every call. */
  public GetTokenResponse token() throws InterruptedException {
    var request = GetTokenRequest.newBuilder().setDestinationId(destination).build();
    var giveUp = Instant.now().plus(PATIENCE);
    while (true) {
      try {
        return within(Duration.between(Instant.now(), giveUp)).getToken(request);
      } catch (StatusRuntimeException error) {
        var delay = retryDelay(error);
        if (delay.isEmpty() || Instant.now().plus(delay.get()).isAfter(giveUp)) {
          throw error;
        }
        Thread.sleep(delay.get().toMillis());
      }
    }
  }

  /** Reports a token that the API answered with 401, and waits for the next one. */
  public Optional<GetTokenResponse> successor(GetTokenResponse rejected) {
    var report =
        ReportRejectedRequest.newBuilder()
            .setDestinationId(destination)
            .setTokenId(rejected.getTokenId())
            .build();
    var outcome = within(PATIENCE).reportRejected(report).getOutcome();
    if (outcome == ReportOutcome.REPORT_OUTCOME_IGNORED_RATE) {
      return Optional.empty();
    }
    var request = WatchTokenRequest.newBuilder().setDestinationId(destination).build();
    // Cancelling ends the stream, of which one token is enough.
    try (var context = Context.current().withCancellation()) {
      var previous = context.attach();
      try {
        var events = within(PATIENCE).watchToken(request);
        while (events.hasNext()) {
          var event = events.next();
          if (event.hasToken() && !event.getToken().getTokenId().equals(rejected.getTokenId())) {
            return Optional.of(event.getToken());
          }
        }
      } finally {
        context.detach(previous);
      }
    }
    return Optional.empty();
  }

  @Override
  public void close() {
    channel.shutdownNow();
  }

  private TokenBrokerBlockingStub within(Duration time) {
    return TokenBrokerGrpc.newBlockingStub(channel)
        .withDeadlineAfter(time.toMillis(), TimeUnit.MILLISECONDS);
  }

  /** When trying again can help, if it can. */
  private static Optional<Duration> retryDelay(StatusRuntimeException error) {
    var status = StatusProto.fromThrowable(error);
    if (status == null) {
      return Optional.empty();
    }
    for (Any detail : status.getDetailsList()) {
      if (detail.is(RetryInfo.class)) {
        try {
          var delay = detail.unpack(RetryInfo.class).getRetryDelay();
          return Optional.of(Duration.ofSeconds(delay.getSeconds(), delay.getNanos()));
        } catch (InvalidProtocolBufferException malformed) {
          return Optional.empty();
        }
      }
    }
    return Optional.empty();
  }
}
