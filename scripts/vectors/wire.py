#!/usr/bin/env python3
"""Reads the vectors of docs/wire.md with nothing but that document, as an implementation in another language does.

    scripts/vectors/wire.py tests/vectors    # one line per file; fails if anything is not as the document says

Needs the PyPI package `cryptography`; `scripts/vectors/run` installs it. Numbers of sections are those of docs/wire.md.
Where the document leaves a choice (which of several broken rules is told, bad-signatures, groups), the one made here is noted.
"""

import base64
import hashlib
import itertools
import json
import math
import pathlib
import random
import struct
import sys
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Optional

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

# 15. Each reason has one fault.
REASONS = {
    "malformed": "protobuf empty not-canonical public-key retention missing-kind not-a-number link cbor field unknown-field "
    "contradiction key disagrees fingerprint dates exchange-key mixture surplus-signature payload-type",
    "invalid": "signature forged other-party same-party half-signed other-key",
    "expired": "expired",
    "stale": "stale",
    "limit": "key-bytes public-key-bytes signature-bytes bad-signatures update-bytes extension-bytes ttl clock-skew document-depth "
    "document-nodes spaces value-bytes nodes announcement-bytes content-bytes",
    "policy": "not-owner no-owner",
    "unsupported": "key-type update-kind unknown-scheme future-round announcement-kind",
}
FAULTS = {reason: fault for fault, reasons in REASONS.items() for reason in reasons.split()}
SKEW, TTL, U64 = 300_000, 172_800_000, 2**64 - 1


class Refused(Exception):
    def __init__(self, reason):
        super().__init__(reason)
        self.reason, self.fault = reason, FAULTS[reason]


def require(rule, reason):
    if not rule:
        raise Refused(reason)


def sha256(data):
    return hashlib.sha256(data).digest()


# 1. Varints and messages


def uvarint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out + bytes([n]))


def read_varint(data, at):
    """The number and the place behind it; a varint of more than 64 bits, or one that is cut short, is none."""
    n = 0
    for i, byte in enumerate(data[at : at + 10]):
        n |= (byte & 127) << 7 * i
        if byte < 128:
            require(n <= U64, "protobuf")
            return n, at + i + 1
    raise Refused("protobuf")


@dataclass
class Field:
    number: int
    wire: int
    value: Any
    raw: bytes
    shortest: bool


def parse(data):
    """The fields of a message as they stand. Of a group, the value is None."""
    fields, at, groups, start = [], 0, [], 0
    while at < len(data):
        start = at if not groups else start
        tag, behind = read_varint(data, at)
        number, wire, value = tag >> 3, tag & 7, None
        require(0 < number < 2**29 and wire < 6, "protobuf")
        shortest = behind - at == len(uvarint(tag))
        at = behind
        if wire == 0:
            value, at = read_varint(data, at)
            shortest &= at - behind == len(uvarint(value))
        elif wire == 3:
            groups.append(number)
        elif wire == 4:
            require(groups and groups.pop() == number, "protobuf")
            wire = 3
        else:
            length = 8 if wire == 1 else 4
            if wire == 2:
                length, at = read_varint(data, at)
                shortest &= at - behind == len(uvarint(length))
            require(length <= len(data) - at, "protobuf")
            value, at = data[at : at + length], at + length
        if not groups:
            fields.append(Field(number, wire, value, data[start:at], shortest and wire != 3))
    require(not groups, "protobuf")
    return fields


WIRE = {"uint64": 0, "int64": 0, "enum": 0, "bool": 0, "sint64": 0, "double": 1, "bytes": 2, "string": 2, "message": 2}
DEFAULTS = {"bytes": b"", "string": "", "message": None}


def typed(field, kind):
    """The value of a field of a known type, and whether it is in the one form that it has."""
    value = field.value
    require(field.wire == WIRE[kind], "protobuf")
    if kind == "string":
        try:
            return value.decode(), True
        except UnicodeDecodeError:
            raise Refused("protobuf")
    if kind == "double":
        return struct.unpack("<d", value)[0], True
    if kind == "bool":
        return value != 0, value < 2
    if kind == "sint64":
        return value >> 1 ^ -(value & 1), True
    if kind == "int64":
        return (value ^ 2**63) - 2**63, True
    if kind == "enum":
        number = (value & 2**32 - 1 ^ 2**31) - 2**31
        return number, number % 2**64 == value
    return value, True


def message(data, schema, others=lambda fields: fields == []):
    """A canonical message (1.1). `schema` maps a number to (name, type, label), `others` judges what is not in it."""
    out = {name: [] if label == "repeated" else None if label else DEFAULTS.get(kind, 0) for name, kind, label in schema.values()}
    canonical, last, unknown, seen = True, 0, [], set()
    for field in parse(data):
        canonical &= field.shortest and field.number >= last
        last = max(last, field.number)
        if field.number not in schema:
            unknown.append(field)
            continue
        name, kind, label = schema[field.number]
        value, one_form = typed(field, kind)
        canonical &= one_form
        if label == "repeated":
            out[name].append(value)
            continue
        canonical &= name not in seen and (label != "" or value != DEFAULTS.get(kind, 0))
        seen.add(name)
        out[name] = value
    require(canonical and others(unknown), "not-canonical")
    return out


def field(number, value):
    """A field of a message as it is written, unless it has the default value; a list is a repeated field."""
    if isinstance(value, list):
        return b"".join(uvarint(number << 3 | 2) + uvarint(len(v)) + v for v in value)
    if isinstance(value, int):
        return uvarint(number << 3) + uvarint(value) if value else b""
    return field(number, [value.encode() if isinstance(value, str) else value]) if value else b""


# 2, 3. Keys, public keys, peer ids

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def base58(data):
    n, out = int.from_bytes(data, "big"), ""
    while n:
        n, digit = divmod(n, 58)
        out = ALPHABET[digit] + out
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + out


def is_peer_id(text):
    """Whether this is the text of a peer id, in the one form that it has."""
    if not 0 < len(text) <= 64 or any(c not in ALPHABET for c in text):
        return False
    n, zeros = 0, len(text) - len(text.lstrip("1"))
    for c in text:
        n = n * 58 + ALPHABET.index(c)
    data = bytes(zeros) + n.to_bytes((n.bit_length() + 7) // 8, "big")
    return data[:2] == b"\x12\x20" and len(data) == 34 or data[:1] == b"\0" and 2 <= len(data) <= 44 and data[1] == len(data) - 2


def peer_id_bytes(key):
    return b"\0" + bytes([len(key)]) + key if len(key) <= 42 else b"\x12\x20" + sha256(key)


def peer_id(key):
    return base58(peer_id_bytes(key))


def check_key(key):
    require(len(key) <= 256, "key-bytes")


def check_owner(key, public_key):
    """The policy key owner (5.4)."""
    segment = key.split(b"/")[2].decode("utf-8", "replace") if key.count(b"/") > 1 else ""
    require(is_peer_id(segment), "no-owner")
    require(segment == peer_id(public_key), "not-owner")


def der(data, tag):
    """What a value in DER holds, and what follows it: lengths are the shortest possible."""
    if len(data) < 2 or data[0] != tag:
        return None, b""
    length, at = data[1], 2
    if length >= 128:
        at = 2 + length - 128
        length = int.from_bytes(data[2:at], "big")
        if length < 128 or data[2] == 0:
            return None, b""
    return (data[at : at + length], data[at + length :]) if length <= len(data) - at else (None, b"")


def der_pair(data):
    """The two numbers of a SEQUENCE of two INTEGERs, or None if it is not DER of such or one is negative."""
    body, rest = der(data, 0x30)
    if body is None or rest:
        return None
    first, rest = der(body, 2)
    second, rest = der(rest, 2)
    for number in (first, second):
        if not number or number[0] >= 128 or (number[0] == 0 and len(number) > 1 and number[1] < 128):
            return None
    return None if rest else (int.from_bytes(first, "big"), int.from_bytes(second, "big"))


ED_P, ED_L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
ED_D = -121665 * pow(121666, -1, ED_P) % ED_P
K1_P = 2**256 - 2**32 - 977
K1_N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
P256_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
P256_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
P256_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P256_HEAD = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
RSA_HEAD = bytes.fromhex("300d06092a864886f70d0101010500")


def key_data(key):
    """The type and the data of a public key that is one (3)."""
    require(len(key) <= 1152, "public-key-bytes")
    try:
        require(key[:1] == b"\x08", "public-key")
        kind, at = read_varint(key, 1)
        require(kind < 4, "key-type")
        length, at = read_varint(key, 3) if key[1] == kind and key[2:3] == b"\x12" else (-1, 0)
        data = key[at:]
        require(length == len(data) and at - 3 == len(uvarint(length)), "public-key")
    except Refused as refused:
        raise Refused("public-key" if refused.reason == "protobuf" else refused.reason)
    if kind == 0:
        info, rest = der(data, 0x30)
        bits, behind = der((info or b"")[len(RSA_HEAD) :], 3)
        good = info is not None and info.startswith(RSA_HEAD) and bits is not None and not rest + behind and bits[:1] == b"\0"
    elif kind == 1:
        good = len(data) == 32 and int.from_bytes(data, "little") % 2**255 < ED_P
    elif kind == 2:
        x = int.from_bytes(data[1:], "big")
        good = len(data) == 33 and data[0] in (2, 3) and x < K1_P and pow(x**3 + 7, (K1_P - 1) // 2, K1_P) in (0, 1)
    else:
        x, y = (int.from_bytes(data[i : i + 32], "big") for i in (27, 59))
        on_curve = x < P256_P and y < P256_P and (y * y - x**3 + 3 * x - P256_B) % P256_P == 0
        good = len(data) == 91 and data.startswith(P256_HEAD) and on_curve
    require(good, "public-key")
    return kind, data


# 4. Signatures

PURPOSES = {
    "update": (b"libp2p-smart-record", b"/libp2p-smart-record/update"),
    "iprs": (b"libp2p-iprs", b"/libp2p-iprs/record"),
    "client": (b"libp2p-presence", b"/libp2p-presence/announcement/client"),
    "node": (b"libp2p-presence", b"/libp2p-presence/announcement/node"),
    "withdrawal": (b"libp2p-presence", b"/libp2p-presence/withdrawal"),
    "signed": (b"libp2p-signed-record", b"/libp2p-signed-record/record"),
}


def preimage(domain, payload_type, body, key=None):
    payload = body if key is None else uvarint(len(key)) + key + body
    return b"".join(uvarint(len(part)) + part for part in (domain, payload_type, payload))


def ed_large_order(data):
    """Whether these bytes are a point of the curve (RFC 8032, 5.1.3) that is not of small order."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y % 2**255
    if y >= ED_P:
        return False
    u, v = (y * y - 1) % ED_P, (ED_D * y * y + 1) % ED_P
    x = u * v**3 * pow(u * v**7, (ED_P - 5) // 8, ED_P) % ED_P
    if (v * x * x - u) % ED_P:
        x = x * pow(2, (ED_P - 1) // 4, ED_P) % ED_P
    if (v * x * x - u) % ED_P or (x == 0 and sign):
        return False
    for _ in range(3):
        product = ED_D * x * x * y * y
        x, y = 2 * x * y * pow(1 + product, -1, ED_P) % ED_P, (y * y + x * x) * pow(1 - product, -1, ED_P) % ED_P
    return (x, y) != (0, 1)


@lru_cache(maxsize=None)
def is_good(public_key, signed, signature):
    kind, data = key_data(public_key)
    try:
        if kind == 0:
            return rsa_is_good(data, signed, signature)
        if kind == 1:
            if len(signature) != 64 or int.from_bytes(signature[32:], "little") >= ED_L:
                return False
            if not (ed_large_order(data) and ed_large_order(signature[:32])):
                return False
            ed25519.Ed25519PublicKey.from_public_bytes(data).verify(signature, signed)
            return True
        curve, order, point = (ec.SECP256K1(), K1_N, data) if kind == 2 else (ec.SECP256R1(), P256_N, data[26:])
        numbers = der_pair(signature)
        if numbers is None or not all(0 < n < order for n in numbers) or (kind == 2 and numbers[1] > order // 2):
            return False
        ec.EllipticCurvePublicKey.from_encoded_point(curve, point).verify(signature, signed, ec.ECDSA(hashes.SHA256()))
        return True
    except InvalidSignature:
        return False


def rsa_is_good(data, signed, signature):
    """RFC 8017, 8.2.2. By hand: `cryptography` wants a key of certain lengths."""
    numbers = der_pair(der(der(data, 0x30)[0][len(RSA_HEAD) :], 3)[0][1:])
    if numbers is None:
        return False
    n, e = numbers
    length, s = (n.bit_length() + 7) // 8, int.from_bytes(signature, "big")
    if not (256 <= length <= 1024 and n % 2 and e % 2 and 3 <= e < 2**33 and len(signature) == length and s < n):
        return False
    digest = bytes.fromhex("3031300d060960864801650304020105000420") + sha256(signed)
    return pow(s, e, n).to_bytes(length, "big") == b"\0\1" + b"\xff" * (length - len(digest) - 3) + b"\0" + digest


def check_signature(public_key, purpose, body, signature, key=None):
    require(len(signature) <= 1024, "signature-bytes")
    require(is_good(public_key, preimage(*PURPOSES[purpose], body, key), signature), "signature")


# 7. Documents

KINDS = "Bool Int Float String Bytes Link Set Dict Predicate List Opaque".split()
NODE = {1: ("expires_at", "uint64", "optional")} | {
    2 + i: (KINDS[i], kind, "oneof")
    for i, kind in enumerate("bool sint64 double string bytes bytes message message message message".split())
}
PAIRS, ELEMENTS = {1: ("pairs", "message", "repeated")}, {1: ("elements", "message", "repeated")}
PAIR = {1: ("key", "message", "optional"), 2: ("value", "message", "optional")}
PREDICATE = {1: ("tag", "string", ""), 2: ("positional", "message", "repeated"), 3: ("named", "message", "repeated")}


@dataclass
class Node:
    """`value` is a list for a Set and a List, a list of pairs for a Dict, and (tag, nodes, pairs) for a Predicate."""

    kind: str
    value: Any
    expires_at: Optional[int] = None

    def content(self):
        """What nodes are compared by (7.2); tuples compare element by element, a proper prefix first."""
        value = self.value
        if self.kind in ("Set", "List"):
            value = contents(value)
        elif self.kind == "Dict":
            value = pair_contents(value)
        elif self.kind == "Predicate":
            value = (value[0].encode(), contents(value[1]), pair_contents(value[2]))
        elif self.kind == "String":
            value = value.encode()
        return KINDS.index(self.kind), value

    def map(self, nodes, pairs, leaf=lambda node: node):
        """This node with its parts changed: `nodes` is told whether they are a Set."""
        if self.kind in ("Set", "List"):
            return replace(self, value=nodes(self.value, self.kind == "Set"))
        if self.kind == "Dict":
            return replace(self, value=pairs(self.value))
        if self.kind == "Predicate":
            return replace(self, value=(self.value[0], nodes(self.value[1], True), pairs(self.value[2])))
        return leaf(self)


def contents(nodes):
    return tuple(node.content() for node in nodes)


def pair_contents(pairs):
    return tuple((key.content(), value.content()) for key, value in pairs)


def ascending(items):
    return all(a < b for a, b in zip(items, items[1:]))


def is_link(data):
    """7.1, rule 3."""
    if data[:2] == b"\x12\x20" and len(data) == 34:
        return
    try:
        numbers, at = [], 0
        for _ in range(4):
            n, behind = read_varint(data, at)
            require(behind - at == len(uvarint(n)), "link")
            numbers, at = numbers + [n], behind
    except Refused:
        raise Refused("link")
    require(numbers[0] == 1 and numbers[3] <= min(64, len(data) - at), "link")
    require(numbers[3] == len(data) - at, "not-canonical")


class Reader:
    """Reads a document; counts its nodes."""

    def __init__(self):
        self.nodes = 0

    def document(self, data):
        self.count(1)
        return Node("Dict", self.pairs(message(data, PAIRS)["pairs"], 2, False))

    def count(self, depth):
        self.nodes += 1
        require(depth <= 16, "document-depth")
        require(self.nodes <= 1024, "document-nodes")

    def pairs(self, encoded, depth, in_key):
        pairs = []
        for data in encoded:
            pair = message(data, PAIR)
            require(None not in pair.values(), "missing-kind")
            pairs.append((self.node(pair["key"], depth, True), self.node(pair["value"], depth, in_key)))
        require(ascending(contents(key for key, _ in pairs)), "not-canonical")
        return pairs

    def elements(self, encoded, depth, in_key, is_set=True):
        nodes = [self.node(data, depth, in_key) for data in encoded]
        require(not is_set or ascending(contents(nodes)), "not-canonical")
        return nodes

    def node(self, data, depth, in_key):
        self.count(depth)
        opaque = []
        fields = message(data, NODE, lambda unknown: opaque.extend(unknown) or all(f.number >= 12 for f in unknown))
        expires_at = fields.pop("expires_at")
        kinds = [kind for kind in fields if fields[kind] is not None]
        require(kinds or opaque, "missing-kind")
        require(len(kinds) + len(opaque) == 1 and not (in_key and expires_at is not None), "not-canonical")
        if opaque:
            return Node("Opaque", opaque[0].raw, expires_at)
        (kind,) = kinds
        value = fields[kind]
        if kind == "Float":
            require(not math.isnan(value), "not-a-number")
            require(value != 0 or math.copysign(1, value) > 0, "not-canonical")
        elif kind == "Link":
            is_link(value)
        elif kind in ("Set", "List"):
            value = self.elements(message(value, ELEMENTS)["elements"], depth + 1, in_key, kind == "Set")
        elif kind == "Dict":
            value = self.pairs(message(value, PAIRS)["pairs"], depth + 1, in_key)
        elif kind == "Predicate":
            parts = message(value, PREDICATE)
            positional = self.elements(parts["positional"], depth + 1, in_key)
            value = (parts["tag"], positional, self.pairs(parts["named"], depth + 1, in_key))
        return Node(kind, value, expires_at)


# 5. Smart records: what is good in a value

UPDATE = {
    1: ("seq", "uint64", ""),
    2: ("expires_at", "uint64", ""),
    3: ("retain_until", "uint64", "optional"),
    4: ("kind", "enum", ""),
    5: ("document", "bytes", ""),
}
LIMITS = {"update_bytes": 2048, "updates_per_space": 64, "space_bytes": 8192, "spaces_per_record": 1024}


@dataclass
class Update:
    data: bytes
    signature: bytes
    seq: int
    expires_at: int
    retain_until: int
    kind: int
    document: Node

    def position(self):
        return self.seq, sha256(self.data)


def last(fields, number, repeated=False):
    """Of a container (5.1): unknown fields are ignored, groups too, and known ones are length-delimited."""
    found = [f for f in fields if f.number == number]
    require(all(f.wire == 2 for f in found), "protobuf")
    values = [f.value for f in found]
    return values if repeated else (values or [b""])[-1]


def containers(value):
    """The public keys of a value, and of each the pairs (update, signature)."""
    spaces = {}
    for encoded in last(parse(value), 1, True):
        space = parse(encoded)
        updates = [parse(update) for update in last(space, 2, True)]
        spaces.setdefault(last(space, 1), []).extend((last(u, 1), last(u, 2)) for u in updates)
    require(any(spaces.values()), "empty")
    return {key: updates for key, updates in spaces.items() if updates}


def read_update(data, signature, public_key, key, limits):
    """5.2, 5.3."""
    require(len(data) <= limits["update_bytes"], "update-bytes")
    extensions = []

    def are_extensions(unknown):
        extensions.extend(f.raw for f in unknown)
        numbers = [f.number for f in unknown]
        return all(f.wire == 2 and 16 <= f.number <= 31 for f in unknown) and ascending(numbers)

    fields = message(data, UPDATE, are_extensions)
    require(sum(map(len, extensions)) <= 512, "extension-bytes")
    require(fields["kind"] in (0, 1), "update-kind")
    retain_until = fields["retain_until"]
    require(retain_until != fields["expires_at"], "not-canonical")
    require(retain_until is None or retain_until > fields["expires_at"], "retention")
    fields["retain_until"] = fields["expires_at"] if retain_until is None else retain_until
    require(fields["retain_until"] - fields["seq"] // 1000 <= TTL, "ttl")
    fields["document"] = Reader().document(fields["document"])
    check_signature(public_key, "update", data, signature, key)
    return Update(data=data, signature=signature, **fields)


def read_record(value, key, now, policy, limits):
    """A state, which is {public key: {position: update}}, and what was refused. Updates beyond 16 bad signatures are read, too."""
    refused, state = Counter(), {}
    try:
        check_key(key)
        spaces = containers(value)
    except Refused as e:
        return {}, Counter([(e.fault, e.reason, None)])
    for public_key, updates in spaces.items():
        try:
            key_data(public_key)
        except Refused as e:
            refused[e.fault, e.reason, None] += 1
            continue
        for data, signature in updates:
            try:
                if policy == "key-owner":
                    check_owner(key, public_key)
                update = read_update(data, signature, public_key, key, limits)
                if now is not None:
                    require(update.seq // 1000 - now <= SKEW, "clock-skew")
                    require(update.retain_until > now, "expired")
                state = join(state, {public_key: {update.position(): update}}, key, None)
            except Refused as e:
                refused[e.fault, e.reason, peer_id(public_key)] += 1
    kept = join(state, {}, key, limits)
    for public_key, space in state.items():
        reason = "stale" if public_key in kept else "spaces"
        refused[FAULTS[reason], reason, peer_id(public_key)] += len(space) - len(kept.get(public_key, {}))
    return kept, +refused


# 6. Joining


def truncate(space, limits):
    """6.2 and 6.3: without what is older than the newest replace, and within the limits."""
    kept, size, room = {}, 0, limits["space_bytes"] - limits["update_bytes"]
    newest_replace = max((position for position, update in space.items() if update.kind == 1), default=(-1, b""))
    full = False
    for position in sorted(space, reverse=True):
        full |= not (len(kept) < limits["updates_per_space"] and (size < room or not kept))
        if position == newest_replace or (position > newest_replace and not full):
            kept[position] = space[position]
            size += len(space[position].data)
    return kept


def join(a, b, key, limits=LIMITS):
    """The join of two states; without limits their union."""
    out = {public_key: dict(space) for public_key, space in a.items()}
    for public_key, space in b.items():
        for position, update in space.items():
            known = out.setdefault(public_key, {}).get(position, update)
            out[public_key][position] = min(known, update, key=lambda u: u.signature)
    if limits is None:
        return out
    staying = sorted(out, key=lambda public_key: rank(key, public_key))[: limits["spaces_per_record"]]
    return {public_key: truncate(out[public_key], limits) for public_key in staying}


def rank(key, public_key):
    return sha256(key + public_key)


def encode_record(state):
    """The canonical form (5.1); None if there is nothing."""
    spaces = []
    for public_key in sorted(state):
        updates = [state[public_key][position] for position in sorted(state[public_key])]
        spaces.append(field(1, public_key) + field(2, [field(1, u.data) + field(2, u.signature) for u in updates]))
    return field(1, spaces) or None


def pieces(state, size):
    """A record in values of at most `size` bytes, or of one update (10): of each space the newest first."""
    out, piece = [], {}
    for public_key, space in state.items():
        for position in sorted(space, reverse=True):
            larger = join(piece, {public_key: {position: space[position]}}, b"", None)
            if piece and len(encode_record(larger)) > size:
                out.append(encode_record(piece))
                larger = {public_key: {position: space[position]}}
            piece = larger
    return out + [encode_record(piece)] if piece else out


# 8. Views


def resolve(node, until):
    """8.1."""
    until = until if node.expires_at is None else min(until, node.expires_at)
    return replace(node, expires_at=until).map(
        lambda nodes, _: [resolve(n, until) for n in nodes],
        lambda pairs: [(key, resolve(value, until)) for key, value in pairs],
    )


def unite(nodes):
    """A Set of these nodes."""
    out = {}
    for node in nodes:
        content = node.content()
        out[content] = together(out[content], node) if content in out else node
    return [out[content] for content in sorted(out)]


def together(a, b):
    """7.3: two nodes of the same content."""
    nodes = lambda x, y: [together(n, m) for n, m in zip(x, y)]
    pairs = lambda x, y: [(key, together(n, m)) for (key, n), (_, m) in zip(x, y)]
    return replace(combine(a, b, nodes, pairs), expires_at=max(a.expires_at, b.expires_at))


def combine(a, b, nodes, pairs):
    """A node like `a`, whose parts are made of those of both."""
    parts = iter([b.value] if b.kind != "Predicate" else b.value[1:])
    return a.map(lambda mine, _: nodes(mine, next(parts)), lambda mine: pairs(mine, next(parts)))


def merge(older, newer):
    """8.2."""
    same = older.kind == newer.kind and (older.kind != "Predicate" or older.value[0] == newer.value[0])
    if not same or older.kind not in ("Set", "Dict", "Predicate"):
        return newer
    merged = combine(older, newer, lambda x, y: unite(x + y), merge_pairs)
    return replace(merged, expires_at=max(older.expires_at, newer.expires_at))


def merge_pairs(older, newer):
    out = {key.content(): (key, value) for key, value in older}
    for key, value in newer:
        known = out.get(key.content())
        out[key.content()] = (key, merge(known[1], value) if known else value)
    return [out[content] for content in sorted(out)]


def visible(node, now):
    """8.3: what is left of a node, or None."""

    def nodes(all_nodes, is_set):
        left = [n for n in (visible(n, now) for n in all_nodes) if n]
        return unite(left) if is_set else left

    def pairs(all_pairs):
        return [(key, value) for key, value in ((key, visible(value, now)) for key, value in all_pairs) if value]

    left = node.map(nodes, pairs)
    parts = left.value[1] + left.value[2] if node.kind == "Predicate" else left.value if type(left.value) is list else []
    return left if node.expires_at > now or parts else None


def view(state, now):
    """8.4."""
    spaces = []
    for public_key in sorted(state):
        updates = [u for _, u in sorted(state[public_key].items()) if u.retain_until > now]
        if not updates:
            continue
        root = resolve(updates[0].document, updates[0].expires_at)
        for update in updates[1:]:
            root = merge(root, resolve(update.document, update.expires_at))
        left, expires_at = visible(root, now), max(u.expires_at for u in updates)
        if expires_at > now or (left and left.value):
            seen = {"public_key": public_key.hex(), "peer_id": peer_id(public_key), "expires_at": expires_at}
            spaces.append(seen | {"seq": max(u.seq for u in updates), "document": to_json(left)["Dict"]})
    return {"now": now, "spaces": spaces}


def to_json(node):
    """A node as the vectors write it."""
    value = node.value
    if isinstance(value, bytes):
        value = value.hex()
    elif node.kind == "Float" and math.isinf(value):
        value = "inf" if value > 0 else "-inf"
    parts = Node(node.kind, value).map(lambda nodes, _: list(map(to_json, nodes)), lambda pairs: [list(map(to_json, p)) for p in pairs])
    value = dict(zip(("tag", "positional", "named"), parts.value)) if node.kind == "Predicate" else parts.value
    return {node.kind: value} | ({} if node.expires_at is None else {"expires_at": node.expires_at})


# 12. IPRS records


class Link(bytes):
    pass


def cbor(data):
    """Strict DAG-CBOR (12.2)."""
    value, at = cbor_item(data, 0, 1)
    require(at == len(data), "cbor")
    return value


def cbor_item(data, at, depth):
    def take(length):
        nonlocal at
        require(at + length <= len(data), "cbor")
        at += length
        return data[at - length : at]

    (head,) = take(1)
    major, n = head >> 5, head & 31
    if major == 7:
        require(n in (20, 21, 22, 27), "cbor")
        if n < 27:
            return {20: False, 21: True, 22: None}[n], at
        (value,) = struct.unpack(">d", take(8))
        require(math.isfinite(value) and (value != 0 or math.copysign(1, value) > 0), "cbor")
        return value, at
    require(n < 28, "cbor")
    if n >= 24:
        width = 1 << n - 24
        n = int.from_bytes(take(width), "big")
        require(n >= (24 if width == 1 else 1 << 4 * width), "cbor")
    if major < 2:
        return (n if major == 0 else -1 - n), at
    if major == 2:
        return take(n), at
    if major == 3:
        try:
            return take(n).decode(), at
        except UnicodeDecodeError:
            raise Refused("cbor")
    if major == 6:
        require(head == 0xD8 and n == 42 and at < len(data) and data[at] >> 5 == 2, "cbor")
        link, at = cbor_item(data, at, depth)
        require(link[:1] == b"\0", "cbor")
        try:
            is_link(link[1:])
        except Refused:
            raise Refused("cbor")
        return Link(link[1:]), at
    require(depth <= 127, "cbor")
    items, keys = [], []
    for _ in range(n):
        if major == 5:
            name, at = cbor_item(data, at, depth + 1)
            require(type(name) is str, "cbor")
            keys.append(name)
        item, at = cbor_item(data, at, depth + 1)
        items.append(item)
    require(ascending([(len(k.encode()), k.encode()) for k in keys]), "cbor")
    return (dict(zip(keys, items)) if major == 5 else items), at


def to_cbor(value):
    """The encoding of what `cbor` gives."""

    def head(major, n):
        if n < 24:
            return bytes([major << 5 | n])
        width = next(w for w in (1, 2, 4, 8) if n < 1 << 8 * w)
        return bytes([major << 5 | 23 + width.bit_length()]) + n.to_bytes(width, "big")

    if value is None or isinstance(value, bool):
        return bytes([{False: 0xF4, True: 0xF5, None: 0xF6}[value]])
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, float):
        return b"\xfb" + struct.pack(">d", value)
    if isinstance(value, Link):
        return b"\xd8\x2a" + head(2, len(value) + 1) + b"\0" + value
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(to_cbor, value))
    keys = sorted(value, key=lambda k: (len(k.encode()), k.encode()))
    return head(5, len(keys)) + b"".join(to_cbor(k) + to_cbor(value[k]) for k in keys)


def block_cid(block):
    return Link(b"\x01\x71\x12\x20" + sha256(block))


def cid_text(cid):
    return "b" + base64.b32encode(cid).decode().lower().rstrip("=")


def scheme_block(name, parameters={}):
    return to_cbor({"name": name, "parameters": dict(parameters), "type": "iprs-scheme"})


SCHEMES = {
    block_cid(scheme_block(name)): name for name in ("datetime-range", "ttl-since-receipt", "ancestry-chain", "sequence-number")
}


def fields_of(value, required, optional={}):
    """A map with exactly these fields of these types; an integer is from 0 to 2^64 - 1."""
    require(type(value) is dict, "field")
    for name, kind in (required | optional).items():
        if name in required or name in value:
            require(name in value and (kind is Any or type(value[name]) is kind), "field")
            require(kind is not int or 0 <= value[name] <= U64, "field")
    require(set(value) <= set(required | optional), "unknown-field")
    return value


def read_iprs(value, key, now, beacon=None):
    """An IPRS record (12); without a time, its times are not judged."""
    check_key(key)
    require(len(value) <= 8192, "value-bytes")
    outer = fields_of(cbor(value), {"record": dict, "signature": bytes})
    types = {"author": bytes, "scheme": Link, "validity": Any, "value": Any, "version": int}
    record = fields_of(outer["record"], types)
    key_data(record["author"])
    check_owner(key, record["author"])
    block = to_cbor(record)
    check_signature(record["author"], "iprs", block, outer["signature"], key)
    schemes, validity, expires_at, ttl = dict(SCHEMES), record["validity"], None, None
    if beacon:
        rounds = [Link.fromhex(r) for r in beacon["rounds"]]
        parameters = {"beacon": rounds[0], "threshold": beacon["threshold"]}
        schemes[block_cid(scheme_block("cryptographic-freshness", parameters))] = "cryptographic-freshness"
    scheme = schemes.get(record["scheme"])
    require(scheme, "unknown-scheme")
    if scheme == "datetime-range":
        fields_of(validity, {}, {"notBefore": int, "notAfter": int})
        begin, expires_at = validity.get("notBefore"), validity.get("notAfter")
        require(begin != 0 and expires_at != U64, "not-canonical")
        order = (U64 if expires_at is None else expires_at, begin or 0)
        require(order[1] < order[0], "contradiction")
        require(now is None or now >= order[1], "clock-skew")
        require(now is None or expires_at is None or now < expires_at, "expired")
    elif scheme == "ttl-since-receipt":
        ttl, order = fields_of(validity, {"ttl": int})["ttl"], ()
        require(ttl, "contradiction")
    elif scheme == "ancestry-chain":
        height, parent = fields_of(validity, {"height": int}, {"parent": Link})["height"], validity.get("parent")
        require((parent is not None) == (height != 0), "contradiction")
        require(parent is None or (len(parent) == 36 and parent[:4] == b"\x01\x71\x12\x20"), "contradiction")
        order = (height,)
    elif scheme == "sequence-number":
        order = (fields_of(validity, {"sequence": int})["sequence"],)
    else:
        at = fields_of(validity, {"beacon": Link, "round": int})["round"]
        require(at < len(rounds), "future-round")
        require(validity["beacon"] == rounds[at], "forged")
        require(len(rounds) - 1 - at <= beacon["threshold"], "stale")
        order = (at,)
    cid = block_cid(block)
    good = {"cid": cid_text(cid), "author": peer_id(record["author"]), "scheme": cid_text(record["scheme"])}
    good |= {"version": record["version"], "expires_at": expires_at, "ttl_since_receipt": ttl}
    return good, (record["version"], record["scheme"], order, cid), outer["signature"]


# 13. Presence records

PRESENCE = {1: ("key", "string", ""), 2: ("update", "int64", ""), 3: ("id1", "string", ""), 4: ("values", "message", "repeated")}
VALUE = {1: ("id2", "string", ""), 3: ("creation", "int64", ""), 4: ("expiration", "int64", ""), 5: ("value", "bytes", "")}
SIGNED_ANNOUNCEMENT = {1: ("message", "bytes", ""), 2: ("client", "bytes", ""), 3: ("node", "bytes", "")}
ANNOUNCEMENT = {
    1: ("node", "bytes", ""),
    2: ("client", "bytes", ""),
    3: ("handshake_key", "bytes", ""),
    4: ("fingerprint", "bytes", ""),
    5: ("expiration", "int64", ""),
    6: ("presence_key", "bytes", ""),
    7: ("creation", "int64", ""),
    8: ("retain_until", "int64", "optional"),
    9: ("kind", "enum", ""),
}
LOW_ORDER = {0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18} | {
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
}


@dataclass
class Entry:
    id2: str
    value: bytes
    weight: int
    signatures: tuple
    message: dict
    rank: tuple

    def before(self, other):
        """Whether this entry is of the greater rank (13.4): of the signatures the lesser is the greater."""
        return (self.rank, other.signatures) > (other.rank, self.signatures)


def client_id(key):
    """13.1."""
    check_key(key)
    try:
        parts = key.decode().split("/")
    except UnicodeDecodeError:
        raise Refused("key")
    require(len(parts) > 3 and parts[:2] == ["", "presence"] and is_peer_id(parts[2]), "key")
    return parts[2]


def read_presence(value, key, now, whole):
    """The entries of a record. A replica refuses it as a whole for a bad one (`whole`), a reader takes the good ones."""
    client = client_id(key)
    require(len(value) <= 8192, "value-bytes")
    record = message(value, PRESENCE)
    values = [message(v, VALUE) for v in record["values"]]
    require(values, "empty")
    require(len(values) <= 8, "nodes")
    require(ascending([v["id2"].encode() for v in values]), "not-canonical")
    require(record["key"] == key.decode() and record["id1"] == client, "disagrees")
    require(record["update"] == max(v["creation"] for v in values), "disagrees")
    entries, expired = {}, None
    for v in values:
        try:
            entry = read_entry(v, key, client)
            require(entry.message["creation"] - now <= SKEW, "clock-skew")
            if entry.message["retain_until"] <= now:
                raise Refused("expired")
            entries[entry.id2] = entry
        except Refused as refused:
            if whole and refused.reason != "expired":
                raise
            expired = refused
    if whole and not entries:
        raise expired
    return entries


def read_entry(v, key, client):
    """13.3, of each value."""
    signed = message(v["value"], SIGNED_ANNOUNCEMENT)
    m = message(signed["message"], ANNOUNCEMENT)
    key_data(m["node"])
    key_data(m["client"])
    node = peer_id(m["node"])
    subkey = key.decode().removesuffix("/") + "/" + node
    weight = len(subkey) + 192 + 2 * len(m["client"]) + 36 + 2 * len(m["node"]) + 36
    require(max(weight, len(v["value"]), len(signed["message"])) <= 2816, "announcement-bytes")
    require(all(len(signed[party]) <= len(m[party]) + 36 for party in ("client", "node")), "signature-bytes")
    require(m["kind"] in (0, 1), "announcement-kind")
    require(peer_id(m["client"]) == client, "other-party")
    require(m["client"] != m["node"], "same-party")
    require(m["fingerprint"] == sha256(m["node"]), "fingerprint")
    require((v["id2"], v["creation"], v["expiration"]) == (subkey, m["creation"], m["expiration"]), "disagrees")
    require(m["retain_until"] != m["expiration"], "not-canonical")
    retain_until = m["expiration"] if m["retain_until"] is None else m["retain_until"]
    require(0 <= m["creation"] < m["expiration"] <= retain_until, "dates")
    require(retain_until - m["creation"] <= TTL, "ttl")
    keys = (m["handshake_key"], m["presence_key"])
    if m["kind"] == 0:
        low = [len(k) != 32 or int.from_bytes(k, "little") % 2**255 in LOW_ORDER for k in keys]
        require(not any(low), "exchange-key")
        require(signed["client"] and signed["node"], "half-signed")
        check_signature(m["client"], "client", signed["message"], signed["client"], key)
        check_signature(m["node"], "node", signed["message"], signed["node"], key)
    else:
        require(keys == (b"", b"") and m["retain_until"] is None, "mixture")
        require(not signed["node"], "surplus-signature")
        check_signature(m["client"], "withdrawal", signed["message"], signed["client"], key)
    rank = (m["creation"], sha256(signed["message"]))
    return Entry(subkey, v["value"], weight, (signed["client"], signed["node"]), m | {"retain_until": retain_until}, rank)


def join_presence(a, b, key):
    """13.4."""
    best = dict(a)
    for id2, entry in b.items():
        if id2 not in best or entry.before(best[id2]):
            best[id2] = entry
    kept, weight, room = {}, 0, 8192 - 2816 - len(key) - len(client_id(key)) - 16
    for entry in sorted(best.values(), key=lambda e: e.rank, reverse=True):
        if not (len(kept) < 8 and (weight < room or not kept)):
            break
        kept[entry.id2] = entry
        weight += entry.weight
    return kept


def encode_presence(entries, key):
    values = [entries[id2] for id2 in sorted(entries, key=str.encode)]
    encoded = [
        field(1, e.id2) + field(3, e.message["creation"]) + field(4, e.message["expiration"]) + field(5, e.value) for e in values
    ]
    update = max((e.message["creation"] for e in values), default=0)
    return field(1, key) + field(2, update) + field(3, client_id(key)) + field(4, encoded) if values else None


def view_presence(entries, now):
    """13.5."""
    seen = []
    for m in (e.message for e in entries.values()):
        if m["kind"] == 0 and m["expiration"] > now:
            names = {"handshake_key": m["handshake_key"].hex(), "presence_key": m["presence_key"].hex()}
            times = {"created_at": m["creation"], "expires_at": m["expiration"], "retain_until": m["retain_until"]}
            seen.append({"node": peer_id(m["node"]), "client": peer_id(m["client"])} | names | times)
    return {"now": now, "announcements": sorted(seen, key=lambda a: a["node"])}


# 14. Signed records

ENVELOPE = {1: ("public_key", "bytes", ""), 2: ("type", "bytes", ""), 3: ("payload", "bytes", ""), 5: ("signature", "bytes", "")}
RECORD = {
    1: ("key", "bytes", ""),
    2: ("value", "bytes", ""),
    3: ("sequence", "uint64", ""),
    4: ("expires_at", "uint64", "optional"),
}


def read_signed(value, key, now):
    """A signed record; without a time, its times are not judged."""
    require(value, "empty")
    require(len(value) <= 8704, "value-bytes")
    check_key(key)
    envelope = message(value, ENVELOPE)
    require(envelope["type"] == PURPOSES["signed"][1], "payload-type")
    record = message(envelope["payload"], RECORD)
    check_key(record["key"])
    require(len(record["value"]) <= 6144, "content-bytes")
    require(record["key"] == key, "other-key")
    key_data(envelope["public_key"])
    check_signature(envelope["public_key"], "signed", envelope["payload"], envelope["signature"])
    if now is not None:
        require(record["sequence"] // 1000 - now <= SKEW, "clock-skew")
        require(record["expires_at"] is None or record["expires_at"] > now, "expired")
    unsigned = field(1, envelope["public_key"]) + field(2, envelope["type"]) + field(3, envelope["payload"])
    good = {"author": peer_id(envelope["public_key"]), "value": record["value"].hex(), "sequence": record["sequence"]}
    good |= {"expires_at": record["expires_at"], "hash": sha256(unsigned).hex()}
    return good, (record["sequence"], sha256(unsigned)), envelope["signature"]


# The vectors


class Disagreement(Exception):
    pass


def agree(what, ours, theirs):
    if ours != theirs:
        raise Disagreement(f"{what}: {shown(ours)}, and the vector has {shown(theirs)}")


def shown(value):
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) < 400 else text[:400] + "…"


def unhex(text):
    return None if text is None else bytes.fromhex(text)


def outcome(function, *arguments):
    """What a reader says of a value, in the form of the vectors: a refusal, or what it returns."""
    try:
        return None, function(*arguments)
    except Refused as refused:
        return {"fault": refused.fault, "reason": refused.reason}, None


def orders(items):
    """All orders of a few items, some of many; and each item twice."""
    if len(items) <= 4:
        yield from itertools.permutations(items)
    else:
        yield from (items, items[::-1], *(random.sample(items, len(items)) for _ in range(20)))
    yield random.sample(list(items) * 2, len(items) * 2)


def choose(case, read):
    """The chosen value is the same in every order; of equals the first. `read` gives what is compared, and a lesser signature."""
    values = [unhex(v) for v in case["values"]]
    for order in orders(range(len(values))):
        best = None
        for i in order:
            refused, found = outcome(read, values[i], unhex(case["key"]))
            if not refused and (best is None or (found[0], best[2]) > (best[1], found[1])):
                best = (i, *found)
        agree("the chosen value", values[best[0]], values[case["best"]])
        if order == tuple(range(len(values))):
            agree("the chosen one of equals", best[0], case["best"])


def check_public_key(case):
    key = unhex(case["public_key"])
    refused, _ = outcome(key_data, key)
    agree("refused", refused, case.get("refused"))
    if not refused:
        agree("the peer id", (peer_id(key), peer_id_bytes(key).hex()), (case["peer_id"], case["peer_id_bytes"]))
        agree("the text of a peer id is one", is_peer_id(peer_id(key)), True)


def check_signature_case(case):
    signed = preimage(case["domain"].encode(), case["payload_type"].encode(), unhex(case["body"]), unhex(case.get("key")))
    agree("what is signed", signed, unhex(case["preimage"]))
    agree("good", is_good(unhex(case["public_key"]), signed, unhex(case["signature"])), case["good"])


def check_document(case):
    refused, document = outcome(Reader().document, unhex(case["bytes"]))
    agree("refused", refused, case.get("refused"))
    if not refused:
        agree("the document", to_json(document)["Dict"], case["document"])


def check_order(case):
    nodes = [Reader().node(unhex(n), 1, False) for n in case["ascending"]]
    for (i, a), (j, b) in itertools.product(enumerate(nodes), repeat=2):
        agree(f"nodes {i} and {j} ascend", a.content() < b.content(), i < j)


def check_record(case):
    key, now, limits = unhex(case["key"]), case["now"], LIMITS | case.get("limits", {})
    read = lambda value: read_record(value, key, now, case.get("policy"), limits)
    values, record = [read(unhex(v)) for v in case["values"]], unhex(case["record"])
    if len(values) == 1:
        reason = lambda r: "signature" if r == "bad-signatures" else r
        told = Counter()
        for r in case.get("refused", []):
            told[FAULTS[reason(r["reason"])], reason(r["reason"]), r.get("peer_id")] += r.get("count", 1)
            agree("the fault of a reason", r["fault"], FAULTS[r["reason"]])
        agree("refused", values[0][1], told)
    for order in orders([state for state, _ in values]):
        joined = {}
        for state in order:
            joined = join(joined, state, key, limits)
        agree("the join", encode_record(joined), record)
    for size in (1, 700, 8192, 15360):
        cut = pieces(joined, size)
        joined_again = {}
        for piece in random.sample(cut, len(cut)):
            agree("the size of a piece", size < 8192 or len(piece) <= size, True)
            joined_again = join(joined_again, read(piece)[0], key, limits)
        agree(f"the join of pieces of {size} bytes", encode_record(joined_again), record)
    for seen in case.get("views", []):
        agree(f"the view at {seen['now']}", view(joined, seen["now"]), seen)


def check_choice(case):
    def read(value, key):
        state, _ = read_record(value, key, None, None, LIMITS)
        require(state, "empty")
        updates = [position for space in state.values() for position in space]
        return (max(updates), len(updates), sha256(encode_record(state))), b""

    choose(case, read)


def check_rank(case):
    agree("the rank", rank(unhex(case["key"]), unhex(case["public_key"])).hex(), case["rank"])


def unbase58(text):
    n = 0
    for c in text:
        n = n * 58 + ALPHABET.index(c)
    return bytes(len(text) - len(text.lstrip("1"))) + n.to_bytes((n.bit_length() + 7) // 8, "big")


def check_shard(case):
    topic, bits = unhex(case["topic"]), case["bits"]
    digest = sha256(sha256(topic) + unbase58(case["peer_id"]))
    key = topic + b"/shard/%d/%d" % (1 << bits, int.from_bytes(digest, "big") >> 256 - bits)
    agree("the key", (key.hex(), key.decode()), (case["key"], case["key_text"]))


def check_scheme(case):
    block = unhex(case["block"])
    description = cbor(block)
    agree("the description", scheme_block(description["name"], description["parameters"]), block)
    agree("the CID", (cid_text(block_cid(block)), block_cid(block).hex()), (case["cid"], case["cid_bytes"]))
    agree("the name", SCHEMES.get(block_cid(block), "cryptographic-freshness"), description["name"])


def check_iprs(case):
    refused, found = outcome(read_iprs, unhex(case["value"]), unhex(case["key"]), case["now"], case.get("beacon"))
    agree("what is read", (refused, found and found[0]), (case.get("refused"), case.get("good")))


def check_presence(case):
    key, now, values = unhex(case["key"]), case["now"], [unhex(v) for v in case["values"]]
    if len(values) == 1:
        refused, _ = outcome(read_presence, values[0], key, now, True)
        agree("refused", refused, case.get("refused"))
        if refused:
            return
    for order in orders([read_presence(value, key, now, False) for value in values]):
        joined = {}
        for entries in order:
            joined = join_presence(joined, entries, key)
        agree("the join", encode_presence(joined, key), unhex(case["record"]))
    for seen in case["views"]:
        agree(f"the view at {seen['now']}", view_presence(joined, seen["now"]), seen)


def check_signed(case):
    refused, found = outcome(read_signed, unhex(case["value"]), unhex(case["key"]), case["now"])
    agree("what is read", (refused, found and found[0]), (case.get("refused"), case.get("good")))


CHECKS = {
    "sr/keys": check_public_key,
    "sr/signatures": check_signature_case,
    "sr/documents": check_document,
    "sr/order": check_order,
    **{f"sr/{name}": check_record for name in ("updates", "extensions", "containers", "joins", "limits", "views")},
    "sr/choices": check_choice,
    "sr/ranks": check_rank,
    "sr/shards": check_shard,
    "iprs/schemes": check_scheme,
    "iprs/records": check_iprs,
    "iprs/choices": lambda case: choose(case, lambda value, key: read_iprs(value, key, None)[1:]),
    "presence/records": check_presence,
    "presence/joins": check_presence,
    "signed/records": check_signed,
    "signed/choices": lambda case: choose(case, lambda value, key: read_signed(value, key, None)[1:]),
}


def main():
    root, failed, files = pathlib.Path(sys.argv[1]), 0, set()
    random.seed(1)
    for path in sorted(p for folder in ("sr", "iprs", "presence", "signed") for p in (root / folder).glob("*.json")):
        name, good, bad = str(path.relative_to(root).with_suffix("")), 0, []
        files.add(name)
        for case in json.loads(path.read_text()):
            try:
                CHECKS[name](case)
                good += 1
            except Exception as error:  # also a fault of this reader, which must not end the list
                bad.append(f"  {name}: {case['name']} (docs/wire.md, section {case['section']}): {type(error).__name__}: {error}")
        print("\n".join([f"{name}: {good} of {good + len(bad)} as docs/wire.md says", *bad]))
        failed += len(bad)
    missing = set(CHECKS) - files
    if missing:
        print("missing:", *sorted(missing))
    return 1 if failed or missing else 0


if __name__ == "__main__":
    sys.exit(main())
