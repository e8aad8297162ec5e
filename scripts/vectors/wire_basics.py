"""What all records of docs/wire.md have in common: sections 1 to 4 and 15.

The modules `wire_*` were written from that document alone. Numbers in comments are its sections.
What breaks several rules is refused for any of them. Of what the document permits, these readers do
nothing: they look at all spaces and all signatures of a value.
"""

import hashlib
import pathlib
import re
from collections import namedtuple
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

# 15. Each reason has one fault.
DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "wire.md"
FAULTS = {reason: fault for fault, reason in re.findall(r"^\| `(\w+)` \| `([\w-]+)` \|", DOCUMENT.read_text(), re.M)}
SKEW, TTL, U64 = 300_000, 172_800_000, 2**64 - 1


class Refused(Exception):
    """Refused for a reason of section 15, its argument."""


def require(rule, reason):
    if not rule:
        raise Refused(reason)


def ascending(items):
    return all(a < b for a, b in zip(items, items[1:]))


def sha256(data):
    return hashlib.sha256(data).digest()


# 1. Varints and messages


def uvarint(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + uvarint(n >> 7)


def read_varint(data, at):
    """The number and the place after it."""
    end = next((i + 1 for i in range(at, min(at + 10, len(data))) if data[i] < 128), at)
    number = sum((byte & 127) << 7 * i for i, byte in enumerate(data[at:end]))
    require(at < end and number <= U64, "protobuf")
    return number, end


Field = namedtuple("Field", "number wire value raw shortest")


def parse(data, inside=0, at=0, group=None):
    """The fields of a message, or of a group, and the place after them; `inside` is how many
    messages and groups it is in."""
    fields = []
    while at < len(data):
        start, (tag, at) = at, read_varint(data, at)
        number, wire, value, encoded = tag >> 3, tag & 7, None, None
        require(0 < number < 2**29 and wire < 6, "protobuf")
        if wire == 4:
            require(number == group, "protobuf")
            return fields, at
        require(inside < 100, "protobuf")
        if wire == 3:
            value, at = parse(data, inside + 1, at, number)
        elif wire == 0:
            value, at = read_varint(data, at)
            encoded = uvarint(value)
        else:
            length, at = read_varint(data, at) if wire == 2 else (8 if wire == 1 else 4, at)
            require(length <= len(data) - at, "protobuf")
            value, at = data[at : at + length], at + length
            encoded = (uvarint(length) if wire == 2 else b"") + value
        fields.append(Field(number, wire, value, data[start:at], encoded and data[start:at] == uvarint(tag) + encoded))
    require(group is None, "protobuf")
    return fields, at


# Of a type: its wire type, what it is as a number or bytes, and back.
TYPES = {
    "uint64": (0, int, int),
    "int64": (0, lambda n: (n ^ 2**63) - 2**63, lambda n: n & U64),
    "sint64": (0, lambda n: n >> 1 ^ -(n & 1), lambda n: n << 1 if n >= 0 else ~(n << 1)),
    "enum": (0, lambda n: (n & 2**32 - 1 ^ 2**31) - 2**31, lambda n: n & U64),
    "bool": (0, bool, int),
    "fixed64": (1, bytes, bytes),
    "bytes": (2, bytes, bytes),
    "string": (2, bytes.decode, str.encode),
}


def schema(text):
    """The fields of a message: number, name, type and, where there is one, label."""
    rows = [row.split() for row in text.split(",")]
    return {int(number): (name, kind, "".join(label)) for number, name, kind, *label in rows}


def encode(schema, values):
    """The canonical form of a message (1.1)."""
    out = b""
    for number, (name, kind, label) in schema.items():
        value, (wire, _, back) = values[name], TYPES[kind]
        is_written = value is not None if label else value
        for item in value if label == "repeated" else [value] if is_written else []:
            raw = back(item)
            out += uvarint(number << 3 | wire) + (uvarint(raw) if wire == 0 else uvarint(len(raw)) * (wire == 2) + raw)
    return out


def message(data, schema, allow=lambda unknown: not unknown):
    """The values of a canonical message (1.1). `allow` judges the fields that `schema` does not
    have."""
    values, unknown = {}, []
    for name, kind, label in schema.values():
        values[name] = [] if label == "repeated" else None if label else TYPES[kind][1](b"" if TYPES[kind][0] else 0)
    for field in parse(data)[0]:
        if field.number not in schema:
            unknown.append(field)
            continue
        name, kind, label = schema[field.number]
        require(field.wire == TYPES[kind][0], "protobuf")
        try:
            value = TYPES[kind][1](field.value)
        except UnicodeDecodeError:
            raise Refused("protobuf")
        values[name] = values[name] + [value] if label == "repeated" else value
    is_canonical = encode(schema, values) + b"".join(f.raw for f in unknown) == data and all(f.shortest for f in unknown)
    require(is_canonical and allow(unknown), "not-canonical")
    return values


# 2.1. Messages of the DHT


def fields_of(data):
    """The last of each field of a message, by number."""
    return {field.number: field.value for field in parse(data)[0]}


def read_answer(data, key, put=None):
    """The value and the ttl in an answer to a GET; `None` if there is none, and for a PUT. Its
    refusals have no reasons of their own."""
    answer = fields_of(data)
    require(answer.get(1, 0) == (0 if put else 1), "other-key")
    require(answer.get(2, b"") in (b"", key), "other-key")
    if 3 not in answer:
        return require(put is None, "other-key")
    record = fields_of(answer[3])
    require(record.get(1, b"") == key and put in (None, record.get(2, b"")), "other-key")
    return None if put else (record.get(2, b""), record.get(777, 0) % 2**32 or None)


# 2, 3. Keys, public keys, peer ids

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def base58(data):
    n, out = int.from_bytes(data, "big"), ""
    while n:
        n, out = n // 58, ALPHABET[n % 58] + out
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + out


def unbase58(text):
    n = 0
    for c in text:
        n = n * 58 + ALPHABET.index(c)
    return bytes(len(text) - len(text.lstrip("1"))) + n.to_bytes((n.bit_length() + 7) // 8, "big")


def is_peer_id(text):
    data = unbase58(text) if set(text) <= set(ALPHABET) else b""
    is_inline = data[:1] == b"\0" and data[1:2] == bytes([len(data) - 2 & 255]) and len(data) <= 44
    return is_inline or (data[:2] == b"\x12\x20" and len(data) == 34)


def peer_id_bytes(key):
    return b"\0" + bytes([len(key)]) + key if len(key) <= 42 else b"\x12\x20" + sha256(key)


def peer_id(key):
    return base58(peer_id_bytes(key))


def check_key(key, namespace):
    require(key.startswith(b"/%s/" % namespace), "namespace")
    require(len(key) <= 256, "key-bytes")


def check_owner(key, public_key):
    """The policy key owner (5.4)."""
    segment = key.split(b"/")[2].decode("utf-8", "replace")
    require(is_peer_id(segment), "no-owner")
    require(segment == peer_id(public_key), "not-owner")


def der(tag, body):
    """DER with the shortest length."""
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8 or 1, "big")
    return bytes([tag]) + (length if len(body) < 128 else bytes([128 + len(length)]) + length) + body


ED_P, ED_L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
ED_D = -121665 * pow(121666, -1, ED_P) % ED_P
K1_N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
P256_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P256_HEAD = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
RSA_HEAD = bytes.fromhex("300d06092a864886f70d0101010500")


def key_data(key):
    """The type of a public key that is one (3), and what a signature is verified with."""
    require(len(key) <= 1152, "public-key-bytes")
    try:
        kind, at = read_varint(key, 1)
        length, after = read_varint(key, at + 1)
        data = key[after:]
        require(key[0] == 0x08 and key[at] == 0x12 and length == len(data), "public-key")
        require(kind < 4, "key-type")
        require(key == bytes([0x08, kind, 0x12]) + uvarint(length) + data, "public-key")
        if kind == 0:  # what the bit string holds; the headers before it have 20 to 24 bytes
            return kind, next(data[i:] for i in range(20, 25) if data == der(0x30, RSA_HEAD + der(3, b"\0" + data[i:])))
        if kind == 1:
            require(len(data) == 32 and int.from_bytes(data, "little") % 2**255 < ED_P, "public-key")
            return kind, data
        curve, head, point = (ec.SECP256K1(), b"", 33) if kind == 2 else (ec.SECP256R1(), P256_HEAD, 65)
        require(data.startswith(head) and len(data) == len(head) + point, "public-key")
        return kind, ec.EllipticCurvePublicKey.from_encoded_point(curve, data[-point:])
    # Also where there are no such headers, and where there is no point of the curve.
    except (Refused, StopIteration, ValueError) as error:
        raise Refused("key-type" if error.args == ("key-type",) else "public-key")


# 4. Signatures


def preimage(domain, payload_type, body, key=None):
    payload = body if key is None else uvarint(len(key)) + key + body
    return b"".join(uvarint(len(part)) + part for part in (domain, payload_type, payload))


def ed_point(encoded):
    """A point of Ed25519 as (X, Y, Z, T) with x = X/Z, y = Y/Z and xy = T/Z."""
    number = int.from_bytes(encoded, "little")
    y, sign = number % 2**255 % ED_P, number >> 255
    square = (y * y - 1) * pow(ED_D * y * y + 1, -1, ED_P) % ED_P
    x = pow(square, (ED_P + 3) // 8, ED_P)
    if x * x % ED_P != square:
        x = x * pow(2, (ED_P - 1) // 4, ED_P) % ED_P
    if x * x % ED_P != square:
        raise ValueError
    x = -x % ED_P if x % 2 != sign else x
    return x, y, 1, x * y % ED_P


ED_B = ed_point((4 * pow(5, -1, ED_P) % ED_P).to_bytes(32, "little"))


def ed_sum(p, q):
    """By the law of addition, over a common denominator."""
    cross, both = (p[0] * q[1] + p[1] * q[0]) % ED_P, (p[0] * q[0] + p[1] * q[1]) % ED_P
    product, scale = ED_D * p[3] * q[3] % ED_P, p[2] * q[2] % ED_P
    minus, plus = scale - product, scale + product
    return cross * minus % ED_P, both * plus % ED_P, minus * plus % ED_P, cross * both % ED_P


def ed_times(n, point):
    total = (0, 1, 1, 0)
    for bit in bin(n)[2:]:
        total = ed_sum(total, total)
        if bit == "1":
            total = ed_sum(total, point)
    return total


def is_small(point):
    """Whether eight times the point is the neutral element."""
    x, y, z, _ = ed_times(8, point)
    return x == 0 and y == z


def ed25519_is_good(key, signed, signature):
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or s >= ED_L or is_small(ed_point(key)):
        return False
    k = int.from_bytes(hashlib.sha512(r + key + signed).digest(), "little") % ED_L
    x, y, z, t = ed_sum(ed_times(k, ed_point(key)), ed_point(r))
    return is_small(ed_sum(ed_times(s, ED_B), (-x, y, z, -t)))


def two_numbers(encoded):
    """Strict DER of a SEQUENCE of two INTEGERs."""
    numbers = decode_dss_signature(encoded)
    if encode_dss_signature(*numbers) != encoded:
        raise ValueError
    return numbers


@lru_cache(maxsize=None)
def is_good(public_key, signed, signature):
    kind, key = key_data(public_key)
    try:
        if kind == 0:
            return rsa_is_good(*two_numbers(key), signed, signature)
        if kind == 1:
            return ed25519_is_good(key, signed, signature)
        r, s = two_numbers(signature)
        order, greatest = (K1_N, K1_N // 2) if kind == 2 else (P256_N, P256_N - 1)
        key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
        return 0 < r < order and 0 < s <= greatest
    except (InvalidSignature, ValueError):
        return False


def rsa_is_good(n, e, signed, signature):
    """By hand, because `cryptography` wants keys of certain lengths."""
    length, s = (n.bit_length() + 7) // 8, int.from_bytes(signature, "big")
    if not (256 <= length <= 1024 and n % 2 and e % 2 and 3 <= e < 2**33 and len(signature) == length and s < n):
        return False
    digest = bytes.fromhex("3031300d060960864801650304020105000420") + sha256(signed)
    return pow(s, e, n).to_bytes(length, "big") == b"\0\1" + b"\xff" * (length - len(digest) - 3) + b"\0" + digest


def check_signature(public_key, payload_type, body, signature, key=None):
    """Each payload type of 4.1 begins with its domain."""
    require(len(signature) <= 1024, "signature-bytes")
    signed = preimage(payload_type.split(b"/")[1], payload_type, body, key)
    require(is_good(public_key, signed, signature), "signature")
