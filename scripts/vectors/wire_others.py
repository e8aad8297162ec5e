"""Public keys, IPRS records, presence records and signed records: sections 2 and 12 to 14. And what
replicas do with values."""

import base64
import math
from types import SimpleNamespace

import cbor2

from wire_smart import *

# 2. Public keys


def read_pk(value, key):
    """The peer id of a public key as a value of the DHT."""
    require(key.startswith(b"/pk/"), "namespace")
    key_data(value)
    require(key[4:] == peer_id_bytes(value), "other-key")
    return peer_id(value)


# 12. IPRS records


def cbor(data):
    """Strict DAG-CBOR (12.2). The package accepts more, so what it reads has to be of these types
    and give the same bytes."""
    try:
        value = cbor2.loads(data, allow_indefinite=False, allow_duplicate_keys=False)
        check_data(value, 1)
        require(cbor2.dumps(value) == data, "cbor")
    except Exception:
        raise Refused("cbor")
    return value


def check_data(value, depth):
    kind, parts = type(value), []
    if kind is cbor2.CBORTag:
        link = value.value
        require(value.tag == 42 and link[:1] == b"\0" and 0 < cid_bytes(link[1:]) == len(link) - 1, "cbor")
    elif kind is float:
        require(math.isfinite(value) and (value != 0 or math.copysign(1, value) > 0), "cbor")
    elif kind is int:
        require(-(2**64) <= value <= U64, "cbor")
    elif kind in (list, dict):
        require(depth <= 127, "cbor")
        keys, parts = (list(value), list(value.values())) if kind is dict else ([], value)
        require(ascending([(len(key.encode()), key.encode()) for key in keys]), "cbor")
    else:
        require(value is None or kind in (bool, bytes, str), "cbor")
    for part in parts:
        check_data(part, depth + 1)


def link(cid):
    return cbor2.CBORTag(42, b"\0" + cid)


def block_cid(block):
    return b"\x01\x71\x12\x20" + sha256(block)


def cid_text(cid):
    return "b" + base64.b32encode(cid).decode().lower().rstrip("=")


def scheme_block(name, **parameters):
    return cbor2.dumps({"name": name, "type": "iprs-scheme", "parameters": parameters})


SCHEME_NAMES = "datetime-range ttl-since-receipt ancestry-chain sequence-number".split()
SCHEMES = {block_cid(scheme_block(name)): name for name in SCHEME_NAMES}


def fields_of(value, *fields):
    """The values of a map with exactly these fields, each a name and a type. A `?` after the name:
    it may be absent."""
    types = dict(field.split() for field in fields)
    require(type(value) is dict, "field")
    out = []
    for name, kind in types.items():
        found = value.get(name.rstrip("?"))
        require(name.rstrip("?") in value or name.endswith("?"), "field")
        if name.rstrip("?") in value and kind != "any":
            require(type(found).__name__ == {"link": "CBORTag"}.get(kind, kind), "field")
            require(kind != "int" or 0 <= found <= U64, "field")
        out.append(found.value[1:] if kind == "link" and found else found)
    require(set(value) <= {name.rstrip("?") for name in types}, "unknown-field")
    return out


def read_iprs(value, key, now, beacon=None):
    """What an IPRS record says, what records are compared by, and its signature. Without `now`,
    times are not judged."""
    check_key(key, b"iprs")
    require(len(value) <= 8192, "value-bytes")
    schemes = dict(SCHEMES)
    if beacon:
        rounds = [bytes.fromhex(cid) for cid in beacon["rounds"]]
        fresh = scheme_block("cryptographic-freshness", beacon=link(rounds[0]), threshold=beacon["threshold"])
        schemes[block_cid(fresh)] = "cryptographic-freshness"
    if value[:1] == b"\x01":
        require(0 < cid_bytes(value) <= len(value), "field")
        require(value[: cid_bytes(value)] in schemes, "unknown-scheme")
    record, signature = fields_of(cbor(value), "record dict", "signature bytes")
    fields = fields_of(record, "author bytes", "scheme link", "validity any", "value any", "version int")
    author, scheme, validity, _, version = fields
    key_data(author)
    check_owner(key, author)
    block = cbor2.dumps(record)
    check_signature(author, b"/libp2p-iprs/record", block, signature, key)
    require(scheme in schemes, "unknown-scheme")
    order, expires_at, ttl = read_validity(schemes[scheme], validity, now, beacon)
    cid = block_cid(block)
    good = {"cid": cid_text(cid), "author": peer_id(author), "scheme": cid_text(scheme)}
    good |= {"version": version, "expires_at": expires_at, "ttl_since_receipt": ttl}
    return good, (version, scheme, order, cid), signature


def read_validity(scheme, validity, now, beacon):
    """12.4: the rank, the expiry and the time to live of a record."""
    if scheme == "datetime-range":
        begin, end = fields_of(validity, "notBefore? int", "notAfter? int")
        require(begin != 0 and end != U64, "not-canonical")
        order = (U64 if end is None else end, begin or 0)
        require(order[1] < order[0], "contradiction")
        require(now is None or now >= order[1], "not-yet")
        require(now is None or end is None or now < end, "expired")
        return order, end, None
    if scheme == "ttl-since-receipt":
        (ttl,) = fields_of(validity, "ttl int")
        require(ttl > 0, "contradiction")
        return (), None, ttl
    if scheme == "ancestry-chain":
        height, parent = fields_of(validity, "height int", "parent? link")
        require((parent is not None) == (height != 0), "contradiction")
        require(parent is None or (len(parent) == 36 and parent[:4] == b"\x01\x71\x12\x20"), "contradiction")
        return height, None, None
    if scheme == "sequence-number":
        return fields_of(validity, "sequence int"), None, None
    cited, at = fields_of(validity, "beacon link", "round int")
    if now is not None:
        require(at < len(beacon["rounds"]), "future-round")
        require(len(beacon["rounds"]) - 1 - at <= beacon["threshold"], "stale")
        require(cited.hex() == beacon["rounds"][at], "forged")
    return at, None, None


# 13. Presence records. Entries are {id2: entry}.

PRESENCE = schema("1 key string, 2 update int64, 3 id1 string, 4 values bytes repeated")
VALUE = schema("1 id2 string, 3 creation int64, 4 expiration int64, 5 value bytes")
SIGNED_ANNOUNCEMENT = schema("1 message bytes, 2 client_signature bytes, 3 node_signature bytes")
ANNOUNCEMENT = schema(
    "1 node bytes, 2 client bytes, 3 handshake_key bytes, 4 fingerprint bytes, 5 expiration int64, 6 presence_key bytes, "
    "7 creation int64, 8 retain_until int64 optional, 9 kind enum"
)
LOW_ORDER = {0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18} | {
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
}


def client_id(key):
    check_key(key, b"presence")
    segments = key.decode("utf-8", "replace").split("/")
    require(len(segments) > 3 and is_peer_id(segments[2]), "key")
    require("/".join(segments).encode() == key, "key")
    return segments[2]


def read_presence(value, key, now, whole):
    """The entries of a record that a reader takes. A replica refuses it as a whole for a bad one
    (`whole`)."""
    client = client_id(key)
    require(len(value) <= 8192, "value-bytes")
    record = message(value, PRESENCE)
    values = [message(encoded, VALUE) for encoded in record["values"]]
    require(values, "empty")
    require(len(values) <= 8 or not whole, "nodes")
    require(ascending([v["id2"].encode() for v in values]), "not-canonical")
    latest_date = max(v["creation"] for v in values)
    require((record["key"], record["id1"], record["update"]) == (key.decode(), client, latest_date), "disagrees")
    good, retained = {}, {}
    for v in values:
        try:
            entry = good[v["id2"]] = read_entry(v, key, client)
            require(now is None or entry.creation - now <= SKEW, "clock-skew")
            if now is None or entry.retain_until > now:
                retained[v["id2"]] = entry
        except Refused:
            if whole:
                raise
    require(not whole or len(join_presence({}, good, key)) == len(values), "value-bytes")
    require(not whole or retained, "expired")
    return join_presence({}, retained, key)


def read_entry(v, key, client):
    """13.3, of each value."""
    signed = SimpleNamespace(**message(v["value"], SIGNED_ANNOUNCEMENT))
    m = SimpleNamespace(id2=v["id2"], value=v["value"], **message(signed.message, ANNOUNCEMENT))
    key_data(m.node)
    key_data(m.client)
    subkey = key.decode().removesuffix("/") + "/" + peer_id(m.node)
    m.weight = len(subkey.encode()) + 192 + 2 * len(m.client) + 36 + 2 * len(m.node) + 36
    require(max(m.weight, len(v["value"])) <= 2816, "announcement-bytes")
    signatures = signed.client_signature, signed.node_signature
    require(len(signatures[0]) <= len(m.client) + 36 and len(signatures[1]) <= len(m.node) + 36, "signature-bytes")
    require(m.kind in (0, 1), "announcement-kind")
    require(peer_id(m.client) == client, "other-party")
    require(m.client != m.node, "same-party")
    require(m.fingerprint == sha256(m.node), "fingerprint")
    require((v["id2"], v["creation"], v["expiration"]) == (subkey, m.creation, m.expiration), "disagrees")
    require(m.retain_until != m.expiration, "not-canonical")
    is_withdrawal, is_plain = m.kind == 1, m.retain_until is None
    m.retain_until = m.expiration if is_plain else m.retain_until
    require(0 <= m.creation < m.expiration <= m.retain_until, "dates")
    require(m.retain_until - m.creation <= TTL, "ttl")
    require(signatures[0] and (is_withdrawal or signatures[1]), "half-signed")
    exchange_keys = (m.handshake_key, m.presence_key)
    if is_withdrawal:
        require(exchange_keys == (b"", b"") and is_plain, "mixture")
        require(not signatures[1], "surplus-signature")
        check_signature(m.client, b"/libp2p-presence/withdrawal", signed.message, signatures[0], key)
    else:
        low = [len(k) != 32 or int.from_bytes(k, "little") % 2**255 in LOW_ORDER for k in exchange_keys]
        require(not any(low), "exchange-key")
        check_signature(m.client, b"/libp2p-presence/announcement/client", signed.message, signatures[0], key)
        check_signature(m.node, b"/libp2p-presence/announcement/node", signed.message, signatures[1], key)
    m.rank, m.signatures = (m.creation, sha256(signed.message)), signatures
    return m


def join_presence(a, b, key):
    """13.4."""
    best = {}
    for entry in sorted([*a.values(), *b.values()], key=lambda entry: entry.signatures, reverse=True):
        if entry.id2 not in best or entry.rank >= best[entry.id2].rank:
            best[entry.id2] = entry
    kept, weight, room = {}, 0, 8192 - 2816 - len(key) - len(client_id(key)) - 16
    for entry in sorted(best.values(), key=lambda entry: entry.rank, reverse=True):
        if not (len(kept) < 8 and (weight < room or not kept)):
            break
        kept[entry.id2] = entry
        weight += entry.weight
    return kept


def encode_presence(entries, key):
    values = [encode(VALUE, vars(entries[id2])) for id2 in sorted(entries, key=str.encode)]
    update = max(entry.creation for entry in entries.values())
    return encode(PRESENCE, {"key": key.decode(), "update": update, "id1": client_id(key), "values": values})


# 14. Signed records

ENVELOPE = schema("1 public_key bytes, 2 type bytes, 3 payload bytes, 5 signature bytes")
SIGNED_TYPE = b"/libp2p-signed-record/record"
SIGNED_RECORD = schema("1 key bytes, 2 value bytes, 3 sequence uint64, 4 expires_at uint64 optional")


def read_signed(value, key, now, policy=None):
    """What a signed record says, what records are compared by, and its signature. Without `now`,
    times are not judged."""
    require(value, "empty")
    require(len(value) <= 8704, "value-bytes")
    check_key(key, b"notes")
    envelope = message(value, ENVELOPE)
    require(envelope["type"] == SIGNED_TYPE, "payload-type")
    record = message(envelope["payload"], SIGNED_RECORD)
    require(len(record["value"]) <= 6144, "content-bytes")
    require(record["key"] == key, "other-key")
    key_data(envelope["public_key"])
    if policy == "key-owner":
        check_owner(key, envelope["public_key"])
    check_signature(envelope["public_key"], SIGNED_TYPE, envelope["payload"], envelope["signature"])
    if now is not None:
        require(record["sequence"] // 1000 - now <= SKEW, "clock-skew")
        require(record["expires_at"] is None or record["expires_at"] > now, "expired")
    unsigned = sha256(encode(ENVELOPE, envelope | {"signature": b""}))
    good = {"author": peer_id(envelope["public_key"]), "value": record["value"].hex(), "sequence": record["sequence"]}
    good |= {"expires_at": record["expires_at"], "hash": unsigned.hex()}
    return good, (record["sequence"], unsigned), envelope["signature"]


# What a replica keeps and sends: 10.1, 12.4, 12.5 and 13.3. It drops at once what it may drop.


class SmartReplica:
    """Of smart records (5 to 10). Record.ttl says nothing."""

    def __init__(self, key):
        self.key, self.state = key, {}

    def put(self, value, now, ttl):
        good, refused = read_record(value, self.key, now)
        if not good:
            raise Refused(next(iter(refused))[0])
        self.state = join(self.retained(now), good, self.key)
        stays = any(position in self.state.get(writer, {}) for writer, space in good.items() for position in space)
        require(stays, "stale")

    def get(self, now):
        return encode_record(self.retained(now)) or None

    def retained(self, now):
        retained = lambda space: {at: update for at, update in space.items() if update.retain_until > now}
        return {writer: retained(space) for writer, space in self.state.items() if retained(space)}


class PresenceReplica:
    def __init__(self, key):
        self.key, self.entries = key, {}

    def put(self, value, now, ttl):
        new = read_presence(value, self.key, now, True)
        held = self.retained(now)
        if max((entry.creation for entry in held.values()), default=0) - now > 2 * SKEW:
            held = {}
        joined = join_presence(held, new, self.key)
        knows = lambda entry: held[entry.id2].rank == entry.rank if entry.id2 in held else False
        require(joined != held or all(map(knows, new.values())), "stale")
        self.entries = joined

    def get(self, now):
        return encode_presence(self.retained(now), self.key) if self.retained(now) else None

    def retained(self, now):
        return {id2: entry for id2, entry in self.entries.items() if entry.retain_until > now}


class ValueReplica:
    """Of one value under a key (12.5)."""

    def __init__(self, key, read):
        self.key, self.read, self.kept, self.remembered = key, read, None, None

    def put(self, value, now, ttl):
        good, order, signature = self.read(value, self.key, now)
        own_end, since_receipt = good.get("expires_at"), good.get("ttl_since_receipt")
        new = SimpleNamespace(value=value, order=order, signature=signature, receipt=now)
        new.ahead = good.get("sequence", 0) // 1000 if "hash" in good else 0
        held = self.kept if self.kept and now < self.kept.end and self.kept.ahead - now <= 2 * SKEW else None
        known = self.remembered if self.remembered and now < self.remembered.until else None
        last = held or known
        if last and since_receipt and last.order == order:
            new.receipt = last.receipt
            require(now < new.receipt + since_receipt, "expired")
        elif last:
            require(order >= last.order, "stale")
        if since_receipt:
            own_end = new.receipt + since_receipt
        is_own = own_end is not None and not since_receipt and own_end <= now + TTL
        bounds = [own_end, None if is_own else now + TTL, None if is_own or not ttl else now + 1000 * ttl]
        new.end = min(bound for bound in bounds if bound is not None)
        if held and held.order == order:
            new.end = held.end if since_receipt else max(held.end, new.end)
            new.value, new.signature = min((signature, value), (held.signature, held.value))[::-1]
        self.kept = new
        new.until = max(known.until if known else 0, new.receipt + max(TTL, min(since_receipt or 0, 30 * 86_400_000)))
        self.remembered = new if since_receipt or known else None

    def get(self, now):
        return self.kept.value if self.kept and now < self.kept.end else None

    def ttl(self, now):
        return max((self.kept.end - now) // 1000, 1)


def read_pk_value(value, key, now):
    return {"peer_id": read_pk(value, key)}, (), b""


REPLICAS = {
    b"sr": SmartReplica,
    b"presence": PresenceReplica,
    b"iprs": lambda key: ValueReplica(key, read_iprs),
    b"notes": lambda key: ValueReplica(key, read_signed),
    b"pk": lambda key: ValueReplica(key, read_pk_value),
}
