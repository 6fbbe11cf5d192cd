"""Gets a token as a team would have written it for Occtoo: with requests, and by hand."""

import requests

from site_of_broker import AUDIENCE, CA, CERT, ENDPOINT, done

# These two lines are what a team changes.
BASE_URL = ENDPOINT
TLS = {"cert": CERT, "verify": CA}


def fetch_token(destination_id, client_id, client_secret):
    response = requests.post(
        f"{BASE_URL}/destinations/{destination_id}/token",
        json={"clientId": client_id, "clientSecret": client_secret},
        timeout=10,
        **TLS,
    )
    response.raise_for_status()
    body = response.json()
    return body["accessToken"], body["expiresIn"]


token, expires_in = fetch_token(AUDIENCE, "whoever", "what/ever+=")
assert 0 < expires_in <= 3600, expires_in
try:
    fetch_token("somebody-elses", "whoever", "what/ever+=")
    raise AssertionError("a token of a destination that is not granted")
except requests.HTTPError as refused:
    assert refused.response.status_code == 403, refused
done(token)
