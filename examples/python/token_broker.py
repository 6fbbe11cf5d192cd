"""Tokens from a token broker, for gRPC and for requests."""

import os
import time
from pathlib import Path

import grpc
import requests
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status
from requests.auth import AuthBase

from tokenbroker.v1.token_broker_pb2 import (
    GetTokenRequest,
    ReportOutcome,
    ReportRejectedRequest,
    WatchTokenRequest,
)
from tokenbroker.v1.token_broker_pb2_grpc import TokenBrokerStub

PATIENCE = 10.0  # seconds for everything that one token takes


class Broker:
    """The tokens of one destination."""

    def __init__(self, destination):
        def read(variable):
            return Path(os.environ[variable]).read_bytes()

        credentials = grpc.ssl_channel_credentials(
            read("TOKEN_BROKER_CA"), read("TOKEN_BROKER_KEY"), read("TOKEN_BROKER_CERT")
        )
        target = os.environ["TOKEN_BROKER_ENDPOINT"].removeprefix("https://")
        self._stub = TokenBrokerStub(grpc.secure_channel(target, credentials))
        self._destination = destination

    def token(self):
        """A token that is valid now. The broker is the cache: ask for every call."""
        give_up = time.monotonic() + PATIENCE
        request = GetTokenRequest(destination_id=self._destination)
        while True:
            try:
                return self._stub.GetToken(request, timeout=give_up - time.monotonic())
            except grpc.RpcError as error:
                delay = retry_delay(error)
                if delay is None or time.monotonic() + delay >= give_up:
                    raise
                time.sleep(delay)

    def successor(self, rejected):
        """Reports a token that the API answered with 401, and waits for the next one."""
        report = ReportRejectedRequest(
            destination_id=self._destination, token_id=rejected.token_id
        )
        outcome = self._stub.ReportRejected(report, timeout=PATIENCE).outcome
        if outcome == ReportOutcome.REPORT_OUTCOME_IGNORED_RATE:
            return None
        request = WatchTokenRequest(destination_id=self._destination)
        for event in self._stub.WatchToken(request, timeout=PATIENCE):
            if event.HasField("token") and event.token.token_id != rejected.token_id:
                return event.token
        return None


def retry_delay(error):
    """When trying again can help, in seconds; None if it cannot."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        retry = RetryInfo()
        if detail.Unpack(retry):
            return retry.retry_delay.ToTimedelta().total_seconds()
    return None


def authorization(token):
    return f"{token.token_type} {token.access_token}"


def rewound(request):
    """Whether the body can be sent again, which a stream can only from where it began."""
    if request.body is None or isinstance(request.body, (str, bytes)):
        return True
    try:
        requests.utils.rewind_body(request)
    except requests.exceptions.UnrewindableBodyError:
        return False
    return True


class BrokerAuth(AuthBase):
    """For requests: `requests.get(url, auth=BrokerAuth(broker))`."""

    def __init__(self, broker):
        self._broker = broker

    def __call__(self, request):
        token = self._broker.token()
        request.headers["Authorization"] = authorization(token)
        request.register_hook("response", lambda *a, **kw: self._retry(token, *a, **kw))
        return request

    def _retry(self, token, response, **kwargs):
        # On a redirect to another host requests takes the token away, and it stays away.
        presented = response.request.headers.get("Authorization")
        if response.status_code != 401 or presented != authorization(token):
            return response
        try:
            successor = self._broker.successor(token)
        except grpc.RpcError:
            successor = None
        # Without a successor, or a body to send again, the API's own answer has to do.
        if successor is None or not rewound(response.request):
            return response
        # The connection is used again once the first answer is read.
        response.content
        response.close()
        request = response.request.copy()
        request.headers["Authorization"] = authorization(successor)
        retried = response.connection.send(request, **kwargs)
        retried.history.append(response)
        retried.request = request
        return retried


class BrokerAuthPlugin(grpc.AuthMetadataPlugin):
    """For gRPC APIs: `grpc.metadata_call_credentials(BrokerAuthPlugin(broker))`."""

    def __init__(self, broker):
        self._broker = broker

    def __call__(self, context, callback):
        try:
            token = self._broker.token()
        except grpc.RpcError as error:
            callback((), error)
        else:
            callback((("authorization", authorization(token)),), None)
