"""Appends the lines of standard input to a log, one event a line, and believes nothing that it has not verified: each
receipt, and that each head extends the one before it.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt
    mkdir stubs && PYTHON=venv/bin/python ./generate stubs
    PYTHONPATH=stubs venv/bin/python append.py --receipts ./receipts < events.ndjson
"""

import argparse
import base64
import hashlib
import pathlib
import sys
import time

import grpc
from logwood.v1 import log_pb2, log_pb2_grpc

from receipt import EMPTY, Key, Receipt, check_consistency

CALL_SECONDS = 10
ATTEMPTS_MAX = 8


class Appender:
    """Remembers the last head that it has verified, so that a server that takes something back is noticed."""

    def __init__(self, channel: grpc.Channel, log: str, vkey: str | None) -> None:
        self._service = log_pb2_grpc.LogServiceStub(channel)
        self._log = log
        self.head = EMPTY
        if vkey is None:
            info = self._service.DescribeLog(log_pb2.DescribeLogRequest(log=log), timeout=CALL_SECONDS).info
            vkey = info.vkeys[0]
            print("warning: trusting the key that the server names:", vkey, file=sys.stderr)
        self._key = Key(vkey)

    def append(self, event: bytes) -> Receipt:
        """Logs one event. Its identity is its hash, so that a retry (of the call, or of the whole program) finds the
        entry that is there already. Real events have better ones: CloudTrail's eventID, for instance."""
        identity = base64.b64encode(hashlib.sha256(event).digest())
        request = log_pb2.AppendRequest(log=self._log, entry=event, key=identity, known_size=self.head.size)
        answer = self._retry(request)
        receipt = Receipt(answer.index, list(answer.inclusion), answer.head.checkpoint)
        head = receipt.verify(self._key, event)
        check_consistency(self.head, head, list(answer.head.consistency))
        self.head = head
        return receipt

    def _retry(self, request: log_pb2.AppendRequest) -> log_pb2.AppendResponse:
        """Repeats what is safe to repeat, with back-off: the identity makes it so."""
        pause = 0.05
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                return self._service.Append(request, timeout=CALL_SECONDS)
            except grpc.RpcError as error:
                may_pass = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
                if attempt == ATTEMPTS_MAX or not may_pass:
                    raise
            time.sleep(pause)
            pause *= 2
        raise AssertionError("the last attempt returns or raises")


def main() -> None:
    parser = argparse.ArgumentParser(description="Appends each line of standard input, and verifies its receipt.")
    parser.add_argument("--server", default="127.0.0.1:7070", help="host and port of the server")
    parser.add_argument("--log", default="default", help="name of the log")
    parser.add_argument("--vkey", help="the log's public key; without it, the server's word is taken")
    parser.add_argument("--receipts", type=pathlib.Path, help="directory to write receipts to")
    args = parser.parse_args()

    with grpc.insecure_channel(args.server) as channel:
        appender = Appender(channel, args.log, args.vkey)
        for number, line in enumerate(sys.stdin.buffer, start=1):
            receipt = appender.append(line.removesuffix(b"\n"))
            if args.receipts:
                args.receipts.mkdir(parents=True, exist_ok=True)
                (args.receipts / f"{number}.tlog-proof").write_bytes(receipt.to_bytes())
            print(f"line {number} is entry {receipt.index}, verified in a tree of {appender.head.size}")


if __name__ == "__main__":
    main()
