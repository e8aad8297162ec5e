"""IPRS records, presence records and signed records (docs/wire.md, sections 12 to 14)."""

import base64
import itertools
import math
import struct
from dataclasses import dataclass
from typing import Any

import cbor2

from wire_basics import (
    PURPOSES,
    SKEW,
    TTL,
    U64,
    Refused,
    ascending,
    check_key,
    check_owner,
    check_signature,
    field,
    is_peer_id,
    key_data,
    message,
    peer_id,
    read_varint,
    require,
    schema,
    sha256,
)
from wire_smart import check_link

# 12. IPRS records


class Link(bytes):
    pass


def cbor(data):
    """Strict DAG-CBOR (12.2). The package takes more than that, so what is read has to give the same bytes again."""
    try:
        value = cbor2.loads(data, tag_hook=link_of)
        require(to_cbor(value) == data, "cbor")
    except Exception as error:
        raise Refused("not-canonical" if "not-canonical" in (str(error), str(error.__cause__)) else "cbor")
    return value


def link_of(tag, *_):
    require(tag.tag == 42 and tag.value[:1] == b"\0", "cbor")
    check_link(tag.value[1:])
    return Link(tag.value[1:])


def to_cbor(value, depth=1):
    def head(major, n):
        if n < 24:
            return bytes([major << 5 | n])
        width = next(w for w in (1, 2, 4, 8) if n < 1 << 8 * w)
        return bytes([major << 5 | 23 + width.bit_length()]) + n.to_bytes(width, "big")

    kind = type(value)
    if value is None or kind is bool:
        return {False: b"\xf4", True: b"\xf5", None: b"\xf6"}[value]
    if kind is int:
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if kind is float:
        require(math.isfinite(value) and (value != 0 or math.copysign(1, value) > 0), "cbor")
        return b"\xfb" + struct.pack(">d", value)
    if kind in (bytes, str):
        encoded = value.encode() if kind is str else value
        return head(3 if kind is str else 2, len(encoded)) + encoded
    if kind is Link:
        return b"\xd8\x2a" + head(2, len(value) + 1) + b"\0" + value
    require(kind in (list, dict) and depth <= 127, "cbor")
    items = value if kind is list else sorted(value.items(), key=lambda item: (len(item[0].encode()), item[0].encode()))
    parts = items if kind is list else itertools.chain(*items)
    return head(4 if kind is list else 5, len(value)) + b"".join(to_cbor(part, depth + 1) for part in parts)


def block_cid(block):
    return Link(b"\x01\x71\x12\x20" + sha256(block))


def cid_text(cid):
    return "b" + base64.b32encode(cid).decode().lower().rstrip("=")


def scheme_block(name, parameters={}):
    return to_cbor({"name": name, "parameters": dict(parameters), "type": "iprs-scheme"})


SCHEMES = {
    block_cid(scheme_block(name)): name
    for name in ("datetime-range", "ttl-since-receipt", "ancestry-chain", "sequence-number")
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


def has_own_form(value):
    """12.3: whether a value begins with the CID of a scheme that is not one of 12.4, so that it has a form of its own."""
    try:
        at = 0
        for _ in range(4):
            number, at = read_varint(value, at)
        cid = value[: at + number]
        check_link(cid)
    except Refused:
        return False
    return cid[0] == 1 and cid not in SCHEMES


def read_iprs(value, key, now, beacon=None):
    """An IPRS record (12); without a time, its times are not judged."""
    check_key(key)
    require(len(value) <= 8192, "value-bytes")
    require(not has_own_form(value), "unknown-scheme")
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

PRESENCE = schema("1 key string, 2 update int64, 3 id1 string, 4 values message repeated")
VALUE = schema("1 id2 string, 3 creation int64, 4 expiration int64, 5 value bytes")
SIGNED_ANNOUNCEMENT = schema("1 message bytes, 2 client bytes, 3 node bytes")
ANNOUNCEMENT = schema(
    "1 node bytes, 2 client bytes, 3 handshake_key bytes, 4 fingerprint bytes, 5 expiration int64, 6 presence_key bytes, "
    "7 creation int64, 8 retain_until int64 optional, 9 kind enum"
)
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
    require(len(values) <= 8 or not whole, "nodes")
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
    weight = len(subkey.encode()) + 192 + 2 * len(m["client"]) + 36 + 2 * len(m["node"]) + 36
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
        field(1, e.id2) + field(3, e.message["creation"]) + field(4, e.message["expiration"]) + field(5, e.value)
        for e in values
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

ENVELOPE = schema("1 public_key bytes, 2 type bytes, 3 payload bytes, 5 signature bytes")
RECORD = schema("1 key bytes, 2 value bytes, 3 sequence uint64, 4 expires_at uint64 optional")


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
