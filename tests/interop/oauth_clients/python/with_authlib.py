"""Gets a token with Authlib, which sends a client id and a secret in the form, and a scope."""

from authlib.integrations.requests_client import OAuth2Session

from site_of_broker import AUDIENCE, CA, CERT, ENDPOINT, done

session = OAuth2Session(
    "whoever",
    "whatever",
    scope="anything",
    token_endpoint_auth_method="client_secret_post",
)
answer = session.fetch_token(
    f"{ENDPOINT}/oauth2/token",
    grant_type="client_credentials",
    resource=f"urn:tokenbroker:{AUDIENCE}",
    verify=CA,
    cert=CERT,
)
assert answer["token_type"] == "Bearer"
done(answer["access_token"])
