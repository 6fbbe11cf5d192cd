import com.nimbusds.oauth2.sdk.ClientCredentialsGrant;
import com.nimbusds.oauth2.sdk.TokenRequest;
import com.nimbusds.oauth2.sdk.TokenResponse;
import com.nimbusds.oauth2.sdk.auth.PKITLSClientAuthentication;
import com.nimbusds.oauth2.sdk.id.ClientID;
import java.io.FileInputStream;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocketFactory;
import javax.net.ssl.TrustManagerFactory;

/** Gets a token with Nimbus' OAuth 2.0 SDK, which proves itself by its certificate. */
public final class Client {
    public static void main(String[] arguments) throws Exception {
        var answer = ask(System.getenv("AUDIENCE"));
        if (!answer.indicatesSuccess()) {
            throw new Exception(answer.toErrorResponse().getErrorObject().toString());
        }
        var token = answer.toSuccessResponse().getTokens().getBearerAccessToken();
        if (token.getLifetime() <= 0 || token.getLifetime() > 3600) {
            throw new Exception("it lives for " + token.getLifetime());
        }
        var refused = ask("somebody-elses").toErrorResponse().getErrorObject().getCode();
        if (!refused.equals("invalid_target")) {
            throw new Exception(refused + " instead of invalid_target");
        }
        Files.writeString(Path.of(System.getenv("TOKEN_FILE")), token.getValue());
        System.out.println("a token of " + token.getValue().length() + " characters");
    }

    private static TokenResponse ask(String destination) throws Exception {
        var sockets = sockets();
        var endpoint = new URI(System.getenv("TOKEN_BROKER_ENDPOINT") + "/oauth2/token");
        var authentication = new PKITLSClientAuthentication(new ClientID("whoever"), sockets);
        var request = new TokenRequest.Builder(endpoint, authentication, new ClientCredentialsGrant())
                .resource(new URI("urn:tokenbroker:" + destination))
                .build()
                .toHTTPRequest();
        request.setSSLSocketFactory(sockets);
        request.setConnectTimeout(10_000);
        request.setReadTimeout(10_000);
        return TokenResponse.parse(request.send());
    }

    private static SSLSocketFactory sockets() throws Exception {
        var password = new char[0];
        var own = KeyStore.getInstance("PKCS12");
        own.load(null);
        var chain = new Certificate[] {certificate("TOKEN_BROKER_CERT")};
        var pem = Files.readString(Path.of(System.getenv("TOKEN_BROKER_KEY")));
        var der = Base64.getMimeDecoder().decode(pem.replaceAll("-----[A-Z ]+-----", ""));
        var key = KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(der));
        own.setKeyEntry("client", key, password, chain);
        var keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(own, password);

        var believed = KeyStore.getInstance("PKCS12");
        believed.load(null);
        believed.setCertificateEntry("ca", certificate("TOKEN_BROKER_CA"));
        var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(believed);

        var context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        return context.getSocketFactory();
    }

    private static Certificate certificate(String variable) throws Exception {
        try (var file = new FileInputStream(System.getenv(variable))) {
            return CertificateFactory.getInstance("X.509").generateCertificate(file);
        }
    }
}
