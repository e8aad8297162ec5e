"""Smart records: sections 5 to 10."""

import math
import struct
from collections import Counter, namedtuple
from types import SimpleNamespace

from wire_basics import *

# 7. Documents

KINDS = "Bool Int Float String Bytes Link Set Dict Predicate List Opaque".split()
NODE = schema(
    "1 expires_at uint64 optional, 2 Bool bool oneof, 3 Int sint64 oneof, 4 Float fixed64 oneof, 5 String string oneof, "
    "6 Bytes bytes oneof, 7 Link bytes oneof, 8 Set bytes oneof, 9 Dict bytes oneof, 10 Predicate bytes oneof, "
    "11 List bytes oneof"
)
SORTED = ("Set", "Predicate")
PAIR = schema("1 key bytes optional, 2 value bytes optional")
PARTS = {
    "Set": schema("1 nodes bytes repeated"),
    "List": schema("1 nodes bytes repeated"),
    "Dict": schema("1 pairs bytes repeated"),
    "Predicate": schema("1 tag string, 2 nodes bytes repeated, 3 pairs bytes repeated"),
}


class Node(namedtuple("Node", "kind value nodes pairs expires_at")):
    """`value` is the content of a leaf, or the tag of a Predicate. Only Sets, Lists, Dicts and
    Predicates have parts."""

    def content(self):
        """What nodes are compared by (7.2)."""
        value = self.value.encode() if isinstance(self.value, str) else self.value
        pairs = tuple((key.content(), value.content()) for key, value in self.pairs)
        return KINDS.index(self.kind), value, tuple(node.content() for node in self.nodes), pairs


def cid_bytes(data):
    """The length of the CID at the beginning, or 0 (7.1, rule 3)."""
    at, numbers = 0, []
    try:
        for _ in range(4 if data[:2] != b"\x12\x20" else 0):
            start, (number, at) = at, read_varint(data, at)
            require(data[start:at] == uvarint(number), "link")
            numbers.append(number)
    except Refused:
        return 0
    return 34 if not numbers else at + numbers[3] if numbers[0] == 1 and numbers[3] <= 64 else 0


class Document:
    """Reads a document, and counts its nodes."""

    def __init__(self, data):
        self.count = 0
        self.root = self.node_of("Dict", data, None, 1, False)

    def node(self, data, depth, in_key):
        opaque = []
        values = message(data, NODE, lambda unknown: opaque.extend(unknown) or True)
        expires_at = values.pop("expires_at")
        kinds = [(kind, value) for kind, value in values.items() if value is not None]
        kinds += [("Opaque", field.raw) for field in opaque]
        require(kinds, "missing-kind")
        require(len(kinds) == 1 and not (in_key and expires_at is not None), "not-canonical")
        return self.node_of(*kinds[0], expires_at, depth, in_key)

    def node_of(self, kind, value, expires_at, depth, in_key):
        self.count += 1
        require(depth <= 16, "document-depth")
        require(self.count <= 1024, "document-nodes")
        parts = {}
        if kind in PARTS:
            parts = message(value, PARTS[kind])
            value = parts.pop("tag", "")
        elif kind == "Float":
            value = struct.unpack("<d", value)[0]
            require(not math.isnan(value), "not-a-number")
            require(value != 0 or math.copysign(1, value) > 0, "not-canonical")
        elif kind == "Link":
            require(0 < cid_bytes(value) == len(value), "link")
        nodes = [self.node(part, depth + 1, in_key) for part in parts.get("nodes", [])]
        pairs = [message(part, PAIR) for part in parts.get("pairs", [])]
        require(not any(None in pair.values() for pair in pairs), "missing-kind")
        node = lambda pair, part: self.node(pair[part], depth + 1, in_key or part == "key")
        pairs = [(node(pair, "key"), node(pair, "value")) for pair in pairs]
        is_sorted = kind not in SORTED or ascending([part.content() for part in nodes])
        require(is_sorted and ascending([key.content() for key, _ in pairs]), "not-canonical")
        return Node(kind, value, nodes, pairs, expires_at)


# 5. Smart records: what is good in a value. A state is {public key: {position: update}}.

RECORD, SPACE = schema("1 spaces bytes repeated"), schema("1 public_key bytes, 2 updates bytes repeated")
SIGNED_UPDATE = schema("1 update bytes, 2 signature bytes")
UPDATE = schema("1 seq uint64, 2 expires_at uint64, 3 retain_until uint64 optional, 4 kind enum, 5 document bytes")
LIMITS = {"update_bytes": 2048, "updates_per_space": 64, "space_bytes": 8192, "spaces_per_record": 1024, "withdrawn_per_record": 4096, "min_stamp_bits": 19}


def loose(data, inside, *numbers):
    """Of a message that need not be canonical (5.1): the values of its known fields, which are
    bytes."""
    known = [field for field in parse(data, inside)[0] if field.number in numbers]
    require(all(field.wire == 2 for field in known), "protobuf")
    return [[field.value for field in known if field.number == number] for number in numbers]


def containers(value):
    """The public keys of a value, and of each the pairs (update, signature)."""
    spaces = {}
    for space in loose(value, 0, 1)[0]:
        public_keys, updates = loose(space, 1, 1, 2)
        signed = [[[b"", *values][-1] for values in loose(update, 2, 1, 2)] for update in updates]
        spaces.setdefault([b"", *public_keys][-1], []).extend(signed)
    require(any(spaces.values()), "empty")
    return spaces


def read_update(data, signature, public_key, key, limits):
    """5.2, 5.3."""
    require(len(data) <= limits["update_bytes"], "update-bytes")
    extensions = []

    def are_extensions(unknown):
        extensions.extend(unknown)
        numbers = [field.number for field in unknown]
        return ascending([15, *numbers, 32]) and all(field.wire == 2 for field in unknown)

    update = SimpleNamespace(data=data, signature=signature, **message(data, UPDATE, are_extensions))
    require(sum(len(field.raw) for field in extensions) <= 512, "extension-bytes")
    require(update.kind in (0, 1), "update-kind")
    require(update.retain_until != update.expires_at, "not-canonical")
    update.retain_until = update.expires_at if update.retain_until is None else update.retain_until
    require(update.retain_until >= update.expires_at, "retention")
    require(update.retain_until - update.seq // 1000 <= TTL, "ttl")
    update.document = Document(update.document).root
    check_signature(public_key, b"/libp2p-smart-record/update", data, signature, key)
    fields = [field.value for field in extensions if field.number == 16]
    update.work = work_of_stamp(fields[0], key, public_key, update.seq) if fields else 0
    return update


# 5.5. Stamps


def work_of_stamp(field, key, public_key, seq):
    """The work of an update whose field 16 has these bytes."""
    if len(field) != 9:
        return 0
    day = (seq // 86_400_000_000).to_bytes(4, "big")
    hashed = sha256(b"smart-stamp" + rank(key, public_key) + day + field[1:])
    return field[0] if 256 - int.from_bytes(hashed, "big").bit_length() >= field[0] else 0


def read_record(value, key, now, policy=None, limits=LIMITS, least_work=0):
    """The state that a value says, and how often what was refused of which writer. `now` may be
    None (5.4)."""
    refused, state = Counter(), {}
    try:
        check_key(key, b"sr")
        spaces = containers(value)
    except Refused as error:
        return {}, Counter([(*error.args, None)])
    for public_key, updates in spaces.items():
        writer = None
        for data, signature in updates:
            try:
                key_data(public_key)
                writer = peer_id(public_key)
                if policy == "key-owner":
                    check_owner(key, public_key)
                update = read_update(data, signature, public_key, key, limits)
                require(now is None or update.seq // 1000 - now <= SKEW, "clock-skew")
                require(now is None or update.retain_until > now, "expired")
                require(policy != "least-work" or update.work >= least_work, "too-little-work")
                state = unite_states(state, {public_key: {(update.seq, sha256(data)): update}})
            except Refused as error:
                refused[(*error.args, writer)] += 1
                if writer is None:
                    break
    kept = join({}, state, key, limits)
    for public_key, space in state.items():
        whole = truncate(space, limits)
        without_place = "withdrawn-spaces" if is_withdrawn(whole) else "spaces"
        stale = len(space) - len(whole) if public_key in kept else 0
        refused["stale", peer_id(public_key)] += stale
        refused[without_place, peer_id(public_key)] += len(space) - stale - len(kept.get(public_key, {}))
    return kept, +refused


# 6. Joining


def unite_states(a, b):
    out = {public_key: dict(space) for public_key, space in a.items()}
    for public_key, space in b.items():
        known = out.setdefault(public_key, {})
        for position, update in space.items():
            known[position] = min(known.get(position, update), update, key=lambda update: update.signature)
    return out


def join(a, b, key, limits=LIMITS):
    union = {public_key: truncate(space, limits) for public_key, space in unite_states(a, b).items()}
    ranked = sorted(union, key=lambda public_key: rank(key, public_key))
    counts = lambda work: work if work >= limits["min_stamp_bits"] else 0
    work = lambda public_key: counts(max(update.work for update in union[public_key].values()))
    others = [public_key for public_key in ranked if not is_withdrawn(union[public_key])]
    others.sort(key=work, reverse=True)  # of the same work, the lower rank stays first
    for public_key in others[limits["spaces_per_record"] :]:
        oldest = min(union[public_key])
        if is_withdrawn({oldest: union[public_key][oldest]}):
            union[public_key] = {oldest: union[public_key][oldest]}
    withdrawn = [public_key for public_key in ranked if is_withdrawn(union[public_key])]
    staying = others[: limits["spaces_per_record"]] + withdrawn[: limits["withdrawn_per_record"]]
    return {public_key: union[public_key] for public_key in staying}


def is_withdrawn(space):
    """6.4: one update, a replace with an empty document."""
    return len(space) == 1 and all(update.kind == 1 and not update.document.pairs for update in space.values())


def truncate(space, limits):
    """6.2 and 6.3: without what is older than the newest replace, and within the limits."""
    kept, size, full = {}, 0, False
    newest_replace = max((position for position, update in space.items() if update.kind == 1), default=(-1, b""))
    for position in sorted(space, reverse=True):
        has_room = size < limits["space_bytes"] - limits["update_bytes"] or not kept
        full |= not (len(kept) < limits["updates_per_space"] and has_room)
        if position == newest_replace or (position > newest_replace and not full):
            kept[position] = space[position]
            size += len(space[position].data)
    return kept


def rank(key, public_key):
    return sha256(key + public_key)


def encode_record(state):
    """The canonical form (5.1)."""
    spaces = []
    for public_key, space in sorted(state.items()):
        updates = [{"update": space[at].data, "signature": space[at].signature} for at in sorted(space)]
        updates = [encode(SIGNED_UPDATE, update) for update in updates]
        spaces.append(encode(SPACE, {"public_key": public_key, "updates": updates}))
    return encode(RECORD, {"spaces": spaces})


# 10.1. Coverage

COVERAGE = schema("1 arcs bytes, 2 spaces uint64, 3 digest bytes")


def read_coverage(answer):
    """The arcs, the number of spaces and the digest that an answer says, or None."""
    found = None
    for field in parse(answer)[0]:
        if field.wire != 2:
            break
        found = field.value if field.number == 2 else found
    try:
        said = message(found or b"", COVERAGE)
    except Refused:
        return None
    arcs = [said["arcs"][at : at + 16] for at in range(0, len(said["arcs"]), 16)]
    is_good = all(len(arc) == 16 for arc in arcs) and len(arcs) <= 8 and said["spaces"] < 2**32
    if found is None or len(said["digest"]) != 32 or not is_good:
        return None
    return [[int.from_bytes(arc[at : at + 8], "big") for at in (0, 8)] for arc in arcs], said["spaces"], said["digest"]


def read_asker(answer):
    """The two bytes that say for whom an answer is, or None."""
    found = None
    for field in parse(answer)[0]:
        if field.wire != 2:
            break
        found = field.value if field.number == 3 else found
    return found if found is not None and len(found) == 2 else None


def asker(peer):
    """What the answers for a peer say, by the bytes of its id."""
    return sha256(peer)[:2]


def digest(state, key):
    """The digest of a state, of which everything is retained."""
    spaces = sorted((rank(key, public_key), space) for public_key, space in state.items())
    positions = lambda space: b"".join(seq.to_bytes(8, "big") + hashed for seq, hashed in sorted(space))
    return sha256(b"".join(sha256(place + positions(space)) for place, space in spaces))


# 8. Views. From 8.1 on, every node has a lifetime.


def resolve(node, until):
    """8.1."""
    until = until if node.expires_at is None else min(until, node.expires_at)
    nodes = [resolve(part, until) for part in node.nodes]
    return node._replace(expires_at=until, nodes=nodes, pairs=[(key, resolve(value, until)) for key, value in node.pairs])


def unite(nodes):
    """A Set of these nodes, of which those of the same content become one (7.3)."""
    out = {}
    for node in nodes:
        content = node.content()
        out[content] = latest(out[content], node) if content in out else node
    return [out[content] for content in sorted(out)]


def latest(a, b):
    """Two nodes of the same content, with the later lifetimes (7.3)."""
    nodes = [latest(*both) for both in zip(a.nodes, b.nodes)]
    pairs = [(key, latest(value, other)) for (key, value), (_, other) in zip(a.pairs, b.pairs)]
    return a._replace(nodes=nodes, pairs=pairs, expires_at=max(a.expires_at, b.expires_at))


def merge(older, newer):
    """8.2."""
    if older[:2] != newer[:2] or older.kind not in ("Set", "Dict", "Predicate"):
        return newer
    pairs = {key.content(): (key, value) for key, value in older.pairs}
    for key, value in newer.pairs:
        content = key.content()
        pairs[content] = (key, merge(pairs[content][1], value) if content in pairs else value)
    pairs, expires_at = [pairs[content] for content in sorted(pairs)], max(older.expires_at, newer.expires_at)
    return newer._replace(nodes=unite(older.nodes + newer.nodes), pairs=pairs, expires_at=expires_at)


def visible(node, now):
    """What is left of a node, or None (8.3)."""
    nodes = [left for left in (visible(part, now) for part in node.nodes) if left]
    pairs = [(key, left) for key, left in ((key, visible(value, now)) for key, value in node.pairs) if left]
    nodes = unite(nodes) if node.kind in SORTED else nodes
    return node._replace(nodes=nodes, pairs=pairs) if node.expires_at > now else None


def view(state, now):
    """The spaces that are seen (8.4): {public key: (seq, expires_at, root)}."""
    seen = {}
    for public_key, space in sorted(state.items()):
        updates = [update for _, update in sorted(space.items()) if update.retain_until > now]
        root = None
        for update in updates:
            newer = resolve(update.document, update.expires_at)
            root = merge(root, newer) if root else newer
        expires_at = max((update.expires_at for update in updates), default=0)
        if expires_at > now:
            seen[public_key] = (max(update.seq for update in updates), expires_at, visible(root, now))
    return seen
