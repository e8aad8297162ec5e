#!/usr/bin/env python3
"""Checks the vectors of docs/wire.md, as an implementation in another language does that has
nothing but that document.

    scripts/vectors/wire.py tests/vectors    # one line per file; fails if a vector disagrees

Needs the PyPI packages `cryptography` and `cbor2`, which `scripts/vectors/run` installs.
"""

import itertools
import json
import math
import pathlib
import random
import sys
from collections import Counter

import wire_others as wire  # with all that it imports


def agree(what, ours, theirs):
    if ours != theirs:
        raise ValueError(f"{what}: {str(ours)[:400]}, and the vector has {str(theirs)[:400]}")


def outcome(function, *arguments):
    """A refusal as the vectors write it, or what a function returns."""
    try:
        return None, function(*arguments)
    except wire.Refused as refused:
        return {"fault": wire.FAULTS[refused.args[0]], "reason": refused.args[0]}, None


def orders(items):
    """All orders of a few items, some of many; and each item twice."""
    if len(items) <= 4:
        yield from itertools.permutations(items)
    else:
        yield from (items, items[::-1], *(random.sample(items, len(items)) for _ in range(20)))
    yield random.sample(list(items) * 2, len(items) * 2)


def shown(node):
    """A node as the vectors write it."""
    nodes, pairs = list(map(shown, node.nodes)), [list(map(shown, pair)) for pair in node.pairs]
    value = node.value.hex() if isinstance(node.value, bytes) else node.value
    if node.kind == "Float" and math.isinf(value):
        value = "inf" if value > 0 else "-inf"
    parts = {"Set": nodes, "List": nodes, "Dict": pairs, "Predicate": {"tag": value, "positional": nodes, "named": pairs}}
    return {node.kind: parts.get(node.kind, value)} | ({} if node.expires_at is None else {"expires_at": node.expires_at})


def shown_view(state, now):
    return [
        {"public_key": key.hex(), "peer_id": wire.peer_id(key), "seq": seq, "expires_at": until, "document": shown(root)["Dict"]}
        for key, (seq, until, root) in wire.view(state, now).items()
    ]


def shown_presence(entries, now):
    return [
        {"node": wire.peer_id(e.node), "client": wire.peer_id(e.client), "handshake_key": e.handshake_key.hex()}
        | {"presence_key": e.presence_key.hex(), "created_at": e.creation, "expires_at": e.expiration}
        | {"retain_until": e.retain_until}
        for _, e in sorted(entries.items(), key=lambda item: wire.peer_id(item[1].node))
        if e.kind == 0 and e.expiration > now  # 13.5
    ]


def check_public_key(case):
    key = case["public_key"]
    refused, _ = outcome(wire.key_data, key)
    agree("refused", refused, case.get("refused"))
    if not refused:
        agree("the peer id", (wire.peer_id(key), wire.peer_id_bytes(key)), (case["peer_id"], case["peer_id_bytes"]))
        agree("whether it is a peer id", wire.is_peer_id(wire.peer_id(key)), True)


def check_signature(case):
    signed = wire.preimage(case["domain"].encode(), case["payload_type"].encode(), case["body"], case.get("key"))
    agree("what is signed", signed, case["preimage"])
    agree("good", wire.is_good(case["public_key"], signed, case["signature"]), case["good"])


def check_document(case):
    refused, document = outcome(wire.Document, case["bytes"])
    agree("what is read", (refused, document and shown(document.root)["Dict"]), (case.get("refused"), case.get("document")))


def check_order(case):
    document = wire.Document(b"")
    contents = [document.node(node, 1, False).content() for node in case["ascending"]]
    for (i, a), (j, b) in itertools.product(enumerate(contents), repeat=2):
        agree(f"nodes {i} and {j} ascend", a < b, i < j)


def check_record(case):
    key, now, limits = case["key"], case["now"], wire.LIMITS | case.get("limits", {})
    read = lambda value: wire.read_record(value, key, now, case.get("policy"), limits, case.get("least_work", 0))
    states = [read(value) for value in case["values"]]
    if len(states) == 1:
        told = Counter()
        for refusal in case.get("refused", []):
            agree("the fault of a reason", refusal["fault"], wire.FAULTS[refusal["reason"]])
            # This reader does not stop at 16 bad signatures.
            reason = refusal["reason"].replace("bad-signatures", "signature")
            told[reason, refusal.get("peer_id")] += refusal.get("count", 1)
        agree("refused", states[0][1], told)
    for order in orders([state for state, _ in states]):
        joined = {}
        for state in order:
            joined = wire.join(joined, state, key, limits)
        agree("the join", wire.encode_record(joined), case["record"] or b"")
    # Any subset of the updates is a record (10).
    updates = [(public_key, position) for public_key, space in joined.items() for position in space]
    for count in (1, 2, 5):
        random.shuffle(updates)
        again = {}
        for piece in (updates[i::count] for i in range(min(count, len(updates)))):
            state = {public_key: {} for public_key, _ in piece}
            for public_key, position in piece:
                state[public_key][position] = joined[public_key][position]
            again = wire.join(again, read(wire.encode_record(state))[0], key, limits)
        agree(f"the join of {count} pieces", wire.encode_record(again), case["record"] or b"")
    for seen in case.get("views", []):
        agree(f"the view at {seen['now']}", shown_view(joined, seen["now"]), seen["spaces"])


def check_compaction(case):
    """What is signed in place of an update for which a space has no room (6.6): it says the same.
    """
    wide = wire.LIMITS | {"updates_per_space": 1_000, "space_bytes": 2**20}
    read = lambda field: wire.read_record(case[field], case["key"], case["now"])[0]
    before, update, after = map(read, ("before", "update", "after"))
    agree("there is room", wire.join(before, update, case["key"]) != wire.join(before, update, case["key"], wide), True)
    agree("the join", wire.encode_record(wire.join(before, after, case["key"])), case["after"])
    for seen in case["views"]:
        agree(f"the view at {seen['now']}", shown_view(after, seen["now"]), seen["spaces"])
        unbounded = shown_view(wire.join(before, update, case["key"], wide), seen["now"])
        # The writer signs it later than what it compacts.
        agree("what is said", unbounded, [space | {"seq": mine["seq"]} for space, mine in zip(seen["spaces"], unbounded)])


def check_rank(case):
    agree("the rank", wire.rank(case["key"], case["public_key"]), case["rank"])


def check_stamp(case):
    agree("the work", wire.work_of_stamp(case["stamp"], case["key"], case["public_key"], case["seq"]), case["work"])


def check_coverage(case):
    said = wire.read_coverage(case["value"])
    said = said and {"arcs": said[0], "spaces": said[1], "digest": said[2].hex()}
    agree("the coverage", said, case["coverage"])
    asker = wire.read_asker(case["value"])
    agree("for whom it is", asker and asker.hex(), case["asker"])
    if "peer_id_bytes" in case:
        agree("what is for a peer", wire.asker(case["peer_id_bytes"]).hex(), case["asker"])
    state, _ = wire.read_record(case["value"], case["key"], case["now"])
    agree("the digest", wire.digest(state, case["key"]), case["digest"])


def check_shard(case):
    longest = case["topic"] + b"/shard/%d/%d" % (1 << case["bits"], (1 << case["bits"]) - 1)
    refused, _ = outcome(wire.require, len(longest) <= 256, "key-bytes")
    agree("refused", refused, case.get("refused"))
    if refused:
        return
    digest = wire.sha256(wire.sha256(case["topic"]) + wire.unbase58(case["peer_id"]))
    number = int.from_bytes(digest, "big") >> 256 - case["bits"]
    key = case["topic"] + b"/shard/%d/%d" % (1 << case["bits"], number)
    agree("the key", (key, key.decode()), (case["key"], case["key_text"]))


def check_scheme(case):
    description, cid = wire.cbor(case["block"]), wire.block_cid(case["block"])
    agree("the description", wire.scheme_block(description["name"], **description["parameters"]), case["block"])
    agree("the CID", (wire.cid_text(cid), cid), (case["cid"], case["cid_bytes"]))
    agree("the name", wire.SCHEMES.get(cid, "cryptographic-freshness"), description["name"])


def check_presence(case):
    key, now = case["key"], case["now"]
    if len(case["values"]) == 1:
        refused, _ = outcome(wire.read_presence, case["values"][0], key, now, True)
        agree("refused", refused, case.get("refused"))
        if refused:
            return
    for order in orders([outcome(wire.read_presence, value, key, now, False)[1] or {} for value in case["values"]]):
        joined = {}
        for entries in order:
            joined = wire.join_presence(joined, entries, key)
        agree("the join", wire.encode_presence(joined, key), case["record"])
    for seen in case["views"]:
        agree(f"the view at {seen['now']}", shown_presence(joined, seen["now"]), seen["announcements"])


def read_iprs(case, value, now):
    return wire.read_iprs(value, case["key"], now, case.get("beacon"))


def read_signed(case, value, now):
    return wire.read_signed(value, case["key"], now, case.get("policy"))


def rank_of_record(case, value, _):
    """9."""
    state, _ = wire.read_record(value, case["key"], None)
    wire.require(state, "empty")
    positions = [position for space in state.values() for position in space]
    return None, (max(positions), len(positions), wire.sha256(wire.encode_record(state))), b""


def rank_of_presence(case, value, _):
    """13.5."""
    entries = wire.read_presence(value, case["key"], None, True)
    return None, (max(entry.creation for entry in entries.values()), len(entries), wire.sha256(value)), b""


def put_over(value, found, held, known):
    """What a replica keeps that is given a good value and holds another one (12.5)."""
    wire.require(found[1] >= known[1], "stale")
    return value if (found[1], known[2]) > (known[1], found[2]) else held


def check_with(read):
    def check(case):
        refused, found = outcome(read, case, case["value"], case["now"])
        if found and "held" in case:
            refused, kept = outcome(put_over, case["value"], found, case["held"], read(case, case["held"], None))
            found = None if refused else found
            agree("what is kept", kept, case.get("kept"))
        agree("what is read", (refused, found and found[0]), (case.get("refused"), case.get("good")))

    return check


def choose_with(read):
    """The chosen value is the same in every order. The lesser of two signatures is the better."""

    def check(case):
        values = case["values"]
        for order in orders(range(len(values))):
            best = None
            for i in order:
                refused, found = outcome(read, case, values[i], None)
                if not refused and (best is None or (found[1], best[2]) > (best[1], found[2])):
                    best = (i, *found[1:])
            agree("the chosen value", best and values[best[0]], None if case["best"] is None else values[case["best"]])
            if best and order == tuple(range(len(values))):
                agree("the chosen one of equals", best[0], case["best"])

    return check


def check_pk(case):
    refused, found = outcome(wire.read_pk, case["value"], case["key"])
    agree("what is read", (refused, found), (case.get("refused"), case.get("peer_id")))


def check_replica(case):
    replica = wire.REPLICAS[case["key"].split(b"/")[1]](case["key"])
    for number, step in enumerate(case["steps"]):
        if "put" in step:
            refused, _ = outcome(replica.put, bytes.fromhex(step["put"]), step["at"], step.get("ttl", 0))
            agree(f"step {number}", refused, step.get("refused"))
        else:
            found = replica.get(step["at"])
            agree(f"step {number}", found and found.hex(), step["get"])
            if "ttl" in step:
                agree(f"the ttl of step {number}", replica.ttl(step["at"]), step["ttl"])


def check_answer(case):
    refused, found = outcome(wire.read_answer, case["message"], case["key"], case.get("put"))
    agree("whether it is refused", refused is not None, case["is_refused"])
    agree("what is taken", found or (None, None), (case["record"], case["ttl"]))


def check_of_py_libp2p(case):
    found, _, _ = wire.read_signed(case["envelope"], case["key"], None)
    del found["hash"]
    theirs = {name: case[name] for name in found} | {"value": case["value"].hex()}
    agree("what is read", found, theirs)


def check_not_of_py_libp2p(case):
    refused, _ = outcome(wire.read_signed, case["envelope"], b"/notes/a", None)
    agree("refused, and not for its key", refused is not None and refused["reason"] != "other-key", True)


# What checks the cases of a file. Those of other implementations (`py-libp2p`) do not name
# sections.
CHECKS = {
    "sr/keys": check_public_key,
    "sr/signatures": check_signature,
    "sr/documents": check_document,
    "sr/order": check_order,
    **{f"sr/{name}": check_record for name in ("updates", "extensions", "containers", "joins", "limits", "views")},
    "sr/compactions": check_compaction,
    "sr/choices": choose_with(rank_of_record),
    "sr/ranks": check_rank,
    "sr/stamps": check_stamp,
    "sr/coverage": check_coverage,
    "sr/shards": check_shard,
    "pk/records": check_pk,
    "iprs/schemes": check_scheme,
    "iprs/records": check_with(read_iprs),
    "iprs/choices": choose_with(read_iprs),
    "presence/records": check_presence,
    "presence/joins": check_presence,
    "presence/choices": choose_with(rank_of_presence),
    "signed/records": check_with(read_signed),
    "signed/choices": choose_with(read_signed),
    "replica/answers": check_answer,
    "replica/puts": check_replica,
    "py-libp2p/public-keys": check_pk,
    "py-libp2p/signed-records": check_of_py_libp2p,
    "py-libp2p/ours": check_of_py_libp2p,
    "py-libp2p/refused-records": check_not_of_py_libp2p,
}
# The fields of cases that are bytes.
BYTES = (
    "public_key peer_id_bytes body key preimage signature bytes record topic rank block cid_bytes value envelope held kept "
    "before update after digest stamp message put"
).split()


def disagreements(name, path):
    for number, case in enumerate(json.loads(path.read_text())):
        where = f"{name}: {case.get('name', number)} (docs/wire.md, section {case.get('section', '3 or 14')})"
        case |= {field: bytes.fromhex(case[field]) for field in BYTES if case.get(field) is not None}
        case |= {field: list(map(bytes.fromhex, case[field])) for field in ("values", "ascending") if field in case}
        try:
            CHECKS[name](case)
            yield None
        except Exception as error:  # also a fault of this reader, which must not end the list
            yield f"  {where}: {type(error).__name__}: {error}"


def main():
    root, failed = pathlib.Path(sys.argv[1]), False
    random.seed(1)
    # IPNS records have a specification of their own.
    files = {str(p.relative_to(root).with_suffix("")): p for p in sorted(root.glob("*/*.json")) if p.parent.name != "ipns"}
    for name, path in files.items():
        found = list(disagreements(name, path))
        bad = [line for line in found if line]
        print("\n".join([f"{name}: {len(found) - len(bad)} of {len(found)} as docs/wire.md says", *bad]))
        failed |= bool(bad) or not found
    missing = sorted(set(CHECKS) - set(files))
    if missing:
        print("missing:", *missing)
    return 1 if failed or missing else 0


if __name__ == "__main__":
    sys.exit(main())
