package example;

import io.grpc.StatusRuntimeException;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.Optional;
import tokenbroker.v1.TokenBrokerOuterClass.GetTokenResponse;

/** Calls an API with a token of the broker: {@code CallApi DESTINATION URL}. */
public final class CallApi {
  private static final HttpClient HTTP = HttpClient.newHttpClient();

  public static void main(String[] arguments) throws Exception {
    var url = URI.create(arguments[1]);
    try (var broker = new Broker(arguments[0])) {
      var token = broker.token();
      var response = call(url, token);
      if (response.statusCode() == 401) {
        var successor = successor(broker, token);
        if (successor.isPresent()) {
          response = call(url, successor.get());
        }
      }
      System.out.println(response.statusCode() + " " + response.body());
      if (response.statusCode() >= 400) {
        System.exit(1);
      }
    }
  }

  /** Empty also without the broker: then the API's own answer has to do. */
  private static Optional<GetTokenResponse> successor(Broker broker, GetTokenResponse rejected) {
    try {
      return broker.successor(rejected);
    } catch (StatusRuntimeException unavailable) {
      return Optional.empty();
    }
  }

  private static HttpResponse<String> call(URI url, GetTokenResponse token)
      throws IOException, InterruptedException {
    var request =
        HttpRequest.newBuilder(url)
            .header("Authorization", token.getTokenType() + " " + token.getAccessToken())
            .build();
    return HTTP.send(request, BodyHandlers.ofString());
  }
}
