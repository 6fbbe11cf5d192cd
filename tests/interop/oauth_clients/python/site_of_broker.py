"""What every client is told, and what it has to tell."""

import os

ENDPOINT = os.environ["TOKEN_BROKER_ENDPOINT"]
CA = os.environ["TOKEN_BROKER_CA"]
CERT = (os.environ["TOKEN_BROKER_CERT"], os.environ["TOKEN_BROKER_KEY"])
AUDIENCE = os.environ["AUDIENCE"]


def done(token):
    with open(os.environ["TOKEN_FILE"], "w", encoding="ascii") as file:
        file.write(token)
    print(f"a token of {len(token)} characters")
