"""Verifies Logwood's receipts with nothing of Logwood's: SHA-256 from Python, Ed25519 from `cryptography`.

Sources: C2SP signed-note, tlog-checkpoint and tlog-proof; RFC 6962 section 2.1; RFC 9162 sections 2.1.3.2 and 2.1.4.2.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

HEADER = "c2sp.org/tlog-proof@v1"
ED25519 = 0x01
HASH_BYTES = 32
SIZE_MAX = 2**63 - 1


class Refused(Exception):
    """Something does not verify; the message says what."""


@dataclass(frozen=True)
class Head:
    """The size and root of a tree that the log has signed."""

    size: int
    root: bytes


EMPTY = Head(0, hashlib.sha256().digest())


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def decode(text: str, what: str) -> bytes:
    """Canonical base64 only: one value has one spelling."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(f"{what} is not base64") from error
    if base64.b64encode(raw).decode() != text:
        raise Refused(f"{what} is not canonical base64")
    return raw


def decimal(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or (text[0] == "0" and text != "0"):
        raise Refused(f"{what} is not a decimal number")
    number = int(text)
    if number > SIZE_MAX:
        raise Refused(f"{what} is too large")
    return number


def hash_of(text: str, what: str) -> bytes:
    raw = decode(text, what)
    if len(raw) != HASH_BYTES:
        raise Refused(f"{what} does not have {HASH_BYTES} bytes")
    return raw


class Key:
    """A log's verifier key, `<name>+<id>+<base64>` (C2SP signed-note)."""

    def __init__(self, vkey: str) -> None:
        # Base64 may hold `+`, a name may not.
        name, _, rest = vkey.partition("+")
        key_id, _, encoded = rest.partition("+")
        raw = decode(encoded, "the key")
        if not name or len(raw) != 1 + 32 or raw[0] != ED25519:
            raise Refused("this is no Ed25519 verifier key")
        self.name = name
        self.id = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
        if self.id.hex() != key_id:
            raise Refused("the id of the key is not that of its name and bytes")
        self._public = Ed25519PublicKey.from_public_bytes(raw[1:])

    def open_checkpoint(self, note: bytes) -> Head:
        """The head in a checkpoint, if this key has signed it."""
        try:
            # The last empty line parts text and signatures.
            text, found, signatures = note.decode().rpartition("\n\n")
        except UnicodeDecodeError as error:
            raise Refused("the checkpoint is not text") from error
        if not found or not signatures.endswith("\n"):
            raise Refused("the checkpoint is no signed note")
        text += "\n"
        own = [line for line in signatures[:-1].split("\n") if self._signs(line, text)]
        if not own:
            raise Refused(f"the checkpoint is not signed by {self.name}")
        lines = text.split("\n")
        if len(lines) < 4 or lines[0] != self.name:
            raise Refused(f"the checkpoint is not one of {self.name}")
        return Head(decimal(lines[1], "the tree size"), hash_of(lines[2], "the root hash"))

    def _signs(self, line: str, text: str) -> bool:
        """Whether a signature line is this key's. If it says so, it must verify."""
        dash, _, rest = line.partition(" ")
        name, _, encoded = rest.partition(" ")
        if dash != "\u2014":
            raise Refused("a signature line is malformed")
        raw = decode(encoded, "a signature")
        if name != self.name or raw[:4] != self.id:
            return False
        try:
            self._public.verify(raw[4:], text.encode())
        except InvalidSignature as error:
            raise Refused("the signature of the checkpoint does not verify") from error
        return True


def check_inclusion(head: Head, index: int, leaf: bytes, proof: list[bytes]) -> None:
    """RFC 9162 section 2.1.3.2."""
    if index >= head.size:
        raise Refused(f"index {index} is not in a tree of {head.size}")
    fn, sn, root = index, head.size - 1, leaf
    for sibling in proof:
        if sn == 0:
            raise Refused("the inclusion proof has hashes too many")
        if fn & 1 or fn == sn:
            root = node_hash(sibling, root)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            root = node_hash(root, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise Refused("the inclusion proof has hashes too few")
    if root != head.root:
        raise Refused("the inclusion proof does not lead to the root")


def check_consistency(old: Head, new: Head, proof: list[bytes]) -> None:
    """RFC 9162 section 2.1.4.2: the tree of `new` begins with the tree of `old`."""
    if old.size > new.size:
        raise Refused(f"a head of size {new.size} came after one of {old.size}")
    if old.size in (0, new.size):
        if proof or (old.size == new.size and old.root != new.root):
            raise Refused("two heads of one size differ, or a proof came where none is needed")
        return
    path = list(proof)
    if old.size & (old.size - 1) == 0:
        path.insert(0, old.root)
    if not path:
        raise Refused("the consistency proof is empty")
    fn, sn = old.size - 1, new.size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    old_root = new_root = path[0]
    for sibling in path[1:]:
        if sn == 0:
            raise Refused("the consistency proof has hashes too many")
        if fn & 1 or fn == sn:
            old_root, new_root = node_hash(sibling, old_root), node_hash(sibling, new_root)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            new_root = node_hash(new_root, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0 or old_root != old.root or new_root != new.root:
        raise Refused("the consistency proof does not lead to both roots")


@dataclass(frozen=True)
class Receipt:
    """A C2SP tlog-proof: an index, an inclusion proof, and the checkpoint that the proof leads to."""

    index: int
    proof: list[bytes]
    checkpoint: bytes

    @classmethod
    def parse(cls, file: bytes) -> "Receipt":
        top, found, checkpoint = file.partition(b"\n\n")
        try:
            lines = top.decode().split("\n")
        except UnicodeDecodeError as error:
            raise Refused("the receipt is not text") from error
        if not found or lines.pop(0) != HEADER:
            raise Refused(f"the first line is not {HEADER}, or no empty line follows")
        if lines and lines[0].startswith("extra "):
            lines.pop(0)  # nothing vouches for it
        if not lines or not lines[0].startswith("index "):
            raise Refused("there is no index")
        index = decimal(lines.pop(0).removeprefix("index "), "the index")
        return cls(index, [hash_of(line, "a hash of the proof") for line in lines], checkpoint)

    def to_bytes(self) -> bytes:
        lines = [HEADER, f"index {self.index}", *(base64.b64encode(sibling).decode() for sibling in self.proof)]
        return "\n".join(lines).encode() + b"\n\n" + self.checkpoint

    def verify(self, key: Key, entry: bytes) -> Head:
        """The head under which the log holds `entry`."""
        head = key.open_checkpoint(self.checkpoint)
        check_inclusion(head, self.index, leaf_hash(entry), self.proof)
        return head
