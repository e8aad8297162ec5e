"""Smart records (docs/wire.md, sections 5 to 11)."""

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Optional

from wire_basics import (
    FAULTS,
    SKEW,
    TTL,
    Refused,
    ascending,
    check_key,
    check_owner,
    check_signature,
    field,
    key_data,
    message,
    parse,
    peer_id,
    read_varint,
    require,
    schema,
    sha256,
    uvarint,
)

# 7. Documents

KINDS = "Bool Int Float String Bytes Link Set Dict Predicate List Opaque".split()
NODE = schema(
    "1 expires_at uint64 optional, 2 Bool bool oneof, 3 Int sint64 oneof, 4 Float double oneof, 5 String string oneof, "
    "6 Bytes bytes oneof, 7 Link bytes oneof, 8 Set message oneof, 9 Dict message oneof, 10 Predicate message oneof, "
    "11 List message oneof"
)
PAIRS, ELEMENTS = schema("1 pairs message repeated"), schema("1 elements message repeated")
PAIR = schema("1 key message optional, 2 value message optional")
PREDICATE = schema("1 tag string, 2 positional message repeated, 3 named message repeated")


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


def check_link(data):
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
        fields = message(data, NODE, lambda unknown: opaque.extend(unknown) or True)
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
            check_link(value)
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

UPDATE = schema("1 seq uint64, 2 expires_at uint64, 3 retain_until uint64 optional, 4 kind enum, 5 document bytes")
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
    """A state, which is {public key: {position: update}}, and how often what was refused of which writer."""
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
    parts = Node(node.kind, value).map(
        lambda nodes, _: list(map(to_json, nodes)), lambda pairs: [list(map(to_json, p)) for p in pairs]
    )
    value = dict(zip(("tag", "positional", "named"), parts.value)) if node.kind == "Predicate" else parts.value
    return {node.kind: value} | ({} if node.expires_at is None else {"expires_at": node.expires_at})
