package example;

import io.grpc.CallCredentials;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.util.concurrent.Executor;

/** For gRPC APIs: {@code stub.withCallCredentials(new BrokerCallCredentials(broker))}. */
public final class BrokerCallCredentials extends CallCredentials {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  private final Broker broker;

  public BrokerCallCredentials(Broker broker) {
    this.broker = broker;
  }

  @Override
  public void applyRequestMetadata(RequestInfo call, Executor executor, MetadataApplier applier) {
    executor.execute(
        () -> {
          try {
            var token = broker.token();
            var headers = new Metadata();
            headers.put(AUTHORIZATION, token.getTokenType() + " " + token.getAccessToken());
            applier.apply(headers);
          } catch (StatusRuntimeException error) {
            applier.fail(error.getStatus());
          } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            applier.fail(Status.CANCELLED);
          }
        });
  }
}
