"""What all records of docs/wire.md have in common: sections 1 to 4, and the reasons of 15."""

import hashlib
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

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
    "limit": "key-bytes public-key-bytes signature-bytes bad-signatures update-bytes extension-bytes ttl clock-skew "
    "document-depth document-nodes spaces value-bytes nodes announcement-bytes content-bytes",
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


def ascending(items):
    return all(a < b for a, b in zip(items, items[1:]))


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
DEFAULTS = {"bytes": b"", "string": ""}


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


def schema(text):
    """A table of fields: number, name, type and, where there is one, label."""
    rows = [row.split() for row in text.split(",")]
    return {int(number): (name, kind, label[0] if label else "") for number, name, kind, *label in rows}


def message(data, schema, others=lambda fields: fields == []):
    """A canonical message (1.1). `schema` maps a number to (name, type, label), `others` judges what is not in it."""
    out = {
        name: [] if label == "repeated" else None if label else DEFAULTS.get(kind, 0)
        for name, kind, label in schema.values()
    }
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


def unbase58(text):
    n = 0
    for c in text:
        n = n * 58 + ALPHABET.index(c)
    return bytes(len(text) - len(text.lstrip("1"))) + n.to_bytes((n.bit_length() + 7) // 8, "big")


def is_peer_id(text):
    """Whether this is the text of a peer id, in the one form that it has."""
    if not 0 < len(text) <= 64 or any(c not in ALPHABET for c in text):
        return False
    data = unbase58(text)
    return (
        data[:2] == b"\x12\x20"
        and len(data) == 34
        or data[:1] == b"\0"
        and 2 <= len(data) <= 44
        and data[1] == len(data) - 2
    )


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
        good = (
            info is not None and info.startswith(RSA_HEAD) and bits is not None and not rest + behind and bits[:1] == b"\0"
        )
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
