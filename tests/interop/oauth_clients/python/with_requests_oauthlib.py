"""Gets a token with requests-oauthlib, which sends a client id and a secret in a header."""

from oauthlib.oauth2 import BackendApplicationClient
from requests_oauthlib import OAuth2Session

from site_of_broker import AUDIENCE, CA, CERT, ENDPOINT, done

session = OAuth2Session(client=BackendApplicationClient(client_id="whoever"))
answer = session.fetch_token(
    f"{ENDPOINT}/oauth2/token",
    client_secret="whatever",
    audience=AUDIENCE,
    verify=CA,
    cert=CERT,
)
assert 0 < answer["expires_in"] <= 3600, answer["expires_in"]
done(answer["access_token"])
