"""A name server on 127.0.0.1 that knows one name: name_server.py NAME ADDRESS."""

import socket
import struct
import sys

NAME, ADDRESS = sys.argv[1], socket.inet_aton(sys.argv[2])
A, NO_SUCH_NAME = 1, 3


def answer(query: bytes) -> bytes:
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    question = query[12 : at + 5]
    (kind,) = struct.unpack_from(">H", query, at + 1)
    name = ".".join(labels).lower()
    print(name, kind, flush=True)
    records = b""
    if name == NAME and kind == A:
        # The name is a pointer to the one in the question.
        records = struct.pack(">HHHIH", 0xC00C, A, 1, 60, 4) + ADDRESS
    code = 0 if name == NAME else NO_SUCH_NAME
    # A response, with the bits that say recursion is wanted and available.
    head = struct.pack(">HHHHHH", *struct.unpack_from(">H", query), 0x8180 | code, 1, bool(records), 0, 0)
    return head + question + records


with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("127.0.0.1", 53))
    print("ready", flush=True)
    while True:
        message, peer = server.recvfrom(512)
        server.sendto(answer(message), peer)
