"""Makes the calls that it reads from standard input, and prints what each of them got."""

import os
import sys
from pathlib import Path

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_status import rpc_status

from tokenbroker.v1 import token_broker_pb2 as pb
from tokenbroker.v1.token_broker_pb2_grpc import TokenBrokerStub

PATIENCE = 20.0
folder = Path(os.environ["INTEROP_FOLDER"])
target = os.environ["TOKEN_BROKER_ENDPOINT"].removeprefix("https://")


def connect(who):
    credentials = grpc.ssl_channel_credentials(
        *((folder / name).read_bytes() for name in ("ca.pem", f"{who}.key", f"{who}.pem"))
    )
    return TokenBrokerStub(grpc.secure_channel(target, credentials))


def described(error):
    reason, retry = "-", "-"
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        info, retry_info = ErrorInfo(), RetryInfo()
        if detail.Unpack(info):
            reason = info.reason if info.domain == "tokenbroker" else f"not ours: {info.domain}"
        if detail.Unpack(retry_info):
            retry = "retry"
    return f"{error.code().name} {reason} {retry}"


def request(destination, seconds=None):
    validity = Duration(seconds=seconds) if seconds is not None else None
    return pb.GetTokenRequest(destination_id=destination, min_validity=validity)


def get(stub, destination, argument):
    seconds = None if argument == "-" else int(argument)
    token = stub.GetToken(request(destination, seconds), timeout=PATIENCE)
    whole = token.access_token and token.token_id and token.expires_in.seconds > 0
    return f"OK {token.token_type}" if whole else "incomplete"


def get_within(stub, destination, argument):
    stub.GetToken(request(destination), timeout=int(argument) / 1000)
    return "OK"


def get_for_ever(stub, destination, _):
    stub.GetToken(request(destination))
    return "OK"


def get_often(stub, destination, argument):
    for _ in range(int(argument)):
        stub.GetToken(request(destination), timeout=PATIENCE)
    return "OK"


def get_at_once(stub, destination, argument):
    calls = [
        stub.GetToken.future(request(destination), timeout=PATIENCE) for _ in range(int(argument))
    ]
    answers = (described(call.exception()) if call.exception() else "OK" for call in calls)
    return next((answer for answer in answers if not answer.startswith("DEADLINE")), "OK")


def tokens(stub, destination, timeout=PATIENCE):
    for event in stub.WatchToken(pb.WatchTokenRequest(destination_id=destination), timeout=timeout):
        yield event


def watch(stub, destination, argument):
    ids = []
    for event in tokens(stub, destination):
        if event.WhichOneof("event") != "token":
            return event.unavailable.reason
        ids.append(event.token.token_id)
        if len(ids) == int(argument):
            return f"OK {len(set(ids))}"


def watch_within(stub, destination, argument):
    for _ in tokens(stub, destination, int(argument) / 1000):
        return "an event"
    return "the end"


def watch_trouble(stub, destination, _):
    for event in tokens(stub, destination):
        if event.WhichOneof("event") == "token":
            return "a token"
        retry = "retry" if event.unavailable.HasField("retry_delay") else "-"
        return f"IN_BAND {event.unavailable.reason} {retry}"


def report(stub, destination, _):
    def told(token_id):
        told = pb.ReportRejectedRequest(destination_id=destination, token_id=token_id)
        outcome = stub.ReportRejected(told, timeout=PATIENCE).outcome
        return pb.ReportOutcome.Name(outcome).removeprefix("REPORT_OUTCOME_")

    first = stub.GetToken(request(destination), timeout=PATIENCE).token_id
    outcomes = [told(first)]
    successor = next(
        event.token.token_id
        for event in tokens(stub, destination)
        if event.token.token_id != first
    )
    return " ".join([*outcomes, told(first), told(successor)])


for line in sys.stdin:
    case, who, method, destination, argument = line.split()
    try:
        outcome = globals()[method.replace("-", "_")](connect(who), destination, argument)
    except grpc.RpcError as error:
        outcome = described(error)
    print(case, outcome, flush=True)
