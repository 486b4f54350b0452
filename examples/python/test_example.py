"""Runs the example against a real server, which is killed in between, and spoils receipts in every way.

    LOGWOOD=path/to/logwood PYTHONPATH=stubs python -m unittest
"""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

from receipt import EMPTY, Head, Key, Receipt, Refused, check_consistency, check_inclusion, leaf_hash, node_hash

HERE = pathlib.Path(__file__).parent
EVENTS = [b'{"eventID":"%d"}' % number for number in range(25)]


class Server:
    """A `logwood serve` in a directory."""

    def __init__(self, data: str) -> None:
        command = [os.environ["LOGWOOD"], "serve", "--data", data, "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in self._process.stdout:
            if line.startswith("vkey "):
                self.vkey = line.split()[1]
            if line.startswith("serving gRPC on "):
                self.address = line.split()[-1]
                return
        raise AssertionError("the server ended before it served")

    def end(self, number: int) -> int:
        self._process.send_signal(number)
        self._process.stdout.close()
        return self._process.wait()


def run(server: Server, *arguments: str) -> str:
    command = [sys.executable, str(HERE / "append.py"), "--server", server.address, "--vkey", server.vkey, *arguments]
    return subprocess.run(command, input=b"\n".join(EVENTS), stdout=subprocess.PIPE, check=True).stdout.decode()


class AgainstAServer(unittest.TestCase):
    def test_a_killed_server_loses_and_doubles_nothing(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            data, receipts = f"{directory}/data", pathlib.Path(directory, "receipts")
            server = Server(data)
            first = run(server, "--receipts", str(receipts))
            server.end(signal.SIGKILL)
            server = Server(data)
            again = run(server)
            self.assertEqual(server.end(signal.SIGTERM), 0)
            key = Key(server.vkey)
            for number, event in enumerate(EVENTS):
                for output in (first, again):
                    self.assertIn(f"line {number + 1} is entry {number}, verified", output)
                file = (receipts / f"{number + 1}.tlog-proof").read_bytes()
                Receipt.parse(file).verify(key, event)
            self.every_flipped_bit_is_refused(key, file, EVENTS[-1])

    def every_flipped_bit_is_refused(self, key: Key, file: bytes, event: bytes) -> None:
        for position in range(len(file)):
            spoilt = bytearray(file)
            spoilt[position] ^= 1
            with self.assertRaises(Refused, msg=f"byte {position}"):
                Receipt.parse(bytes(spoilt)).verify(key, event)
        with self.assertRaises(Refused):
            Receipt.parse(file).verify(key, event + b"!")


def root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, as it is written there."""
    if len(leaves) < 2:
        return leaves[0] if leaves else EMPTY.root
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(root(leaves[:split]), root(leaves[split:]))


def path(index: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962 section 2.1.1."""
    if len(leaves) == 1:
        return []
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return [*path(index, leaves[:split]), root(leaves[split:])]
    return [*path(index - split, leaves[split:]), root(leaves[:split])]


def consistency(old: int, leaves: list[bytes], is_whole: bool = True) -> list[bytes]:
    """RFC 6962 section 2.1.2."""
    if old == len(leaves):
        return [] if is_whole else [root(leaves)]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if old <= split:
        return [*consistency(old, leaves[:split], is_whole), root(leaves[split:])]
    return [*consistency(old - split, leaves[split:], False), root(leaves[:split])]


class AgainstTheRfc(unittest.TestCase):
    leaves = [leaf_hash(b"%d" % number) for number in range(24)]

    def head(self, size: int) -> Head:
        return Head(size, root(self.leaves[:size]))

    def each_change_is_refused(self, check, proof: list[bytes]) -> None:
        check(proof)
        spoilt = [[*proof[:at], bytes(32), *proof[at + 1 :]] for at in range(len(proof))]
        for wrong in [*spoilt, [*proof, bytes(32)], *([proof[:-1]] if proof else [])]:
            with self.assertRaises(Refused):
                check(wrong)

    def test_inclusion_proofs_are_those_of_the_recursion(self) -> None:
        for size in range(1, len(self.leaves) + 1):
            for index in range(size):
                proof = path(index, self.leaves[:size])
                check = lambda proof: check_inclusion(self.head(size), index, self.leaves[index], proof)
                self.each_change_is_refused(check, proof)
        with self.assertRaises(Refused):
            check_inclusion(self.head(1), 1, self.leaves[0], [])

    def test_consistency_proofs_are_those_of_the_recursion(self) -> None:
        for size in range(1, len(self.leaves) + 1):
            for old in range(1, size + 1):
                proof = consistency(old, self.leaves[:size])
                check = lambda proof: check_consistency(self.head(old), self.head(size), proof)
                self.each_change_is_refused(check, proof)
        with self.assertRaises(Refused):
            check_consistency(self.head(3), self.head(2), [])


if __name__ == "__main__":
    unittest.main()
