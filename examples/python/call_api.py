"""Calls an API with a token of the broker: call_api.py DESTINATION URL"""

import sys

import requests

from token_broker import Broker, BrokerAuth

destination, url = sys.argv[1:]
response = requests.get(url, auth=BrokerAuth(Broker(destination)), timeout=30)
print(response.status_code, response.text)
response.raise_for_status()
