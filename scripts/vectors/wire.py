#!/usr/bin/env python3
"""Reads the vectors of docs/wire.md with nothing but that document, as an implementation in another language does.

    scripts/vectors/wire.py tests/vectors    # one line per file; fails if anything is not as the document says

Needs the PyPI packages `cryptography` and `cbor2`, which `scripts/vectors/run` installs. Numbers in comments are sections of
docs/wire.md. What is refused is refused for the one rule that it breaks, so the order in which rules are checked is not told
by the vectors. Where the document leaves a choice: groups are ignored, and reading does not end after 16 bad signatures.
"""

import itertools
import json
import pathlib
import random
import sys
from collections import Counter

from wire_basics import (
    FAULTS,
    Refused,
    is_good,
    is_peer_id,
    key_data,
    peer_id,
    peer_id_bytes,
    preimage,
    require,
    sha256,
    unbase58,
)
from wire_others import (
    SCHEMES,
    block_cid,
    cbor,
    cid_text,
    encode_presence,
    join_presence,
    read_iprs,
    read_presence,
    read_signed,
    scheme_block,
    view_presence,
)
from wire_smart import (
    LIMITS,
    Reader,
    encode_record,
    join,
    pieces,
    rank,
    read_record,
    to_json,
    view,
)

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
    """The chosen value is the same in every order. `read` gives what is compared, and a signature, the lesser the better."""
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
    for order in orders([outcome(read_presence, value, key, now, False)[1] or {} for value in values]):
        joined = {}
        for entries in order:
            joined = join_presence(joined, entries, key)
        agree("the join", encode_presence(joined, key), unhex(case["record"]))
    for seen in case["views"]:
        agree(f"the view at {seen['now']}", view_presence(joined, seen["now"]), seen)


def check_signed(case):
    refused, found = outcome(read_signed, unhex(case["value"]), unhex(case["key"]), case["now"])
    agree("what is read", (refused, found and found[0]), (case.get("refused"), case.get("good")))


def check_of_pk(case):
    key = unhex(case["value"])
    key_data(key)
    agree("the key", b"/pk/" + peer_id_bytes(key), unhex(case["key"]))
    agree("the peer id", peer_id(key), case["peer_id"])


def check_of_py_libp2p(case):
    found, _, _ = read_signed(unhex(case["envelope"]), unhex(case["key"]), None)
    agree(
        "what is read",
        {name: value for name, value in found.items() if name in case},
        {name: case[name] for name in found if name != "hash"},
    )


def check_not_of_py_libp2p(case):
    refused, _ = outcome(read_signed, unhex(case["envelope"]), b"/notes/a", None)
    agree("refused, and not for its key", refused is not None and refused["reason"] != "other-key", True)


# What checks the cases of a file. Those of other implementations (`py-libp2p`) do not name sections.
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
    "py-libp2p/public-keys": check_of_pk,
    "py-libp2p/signed-records": check_of_py_libp2p,
    "py-libp2p/ours": check_of_py_libp2p,
    "py-libp2p/refused-records": check_not_of_py_libp2p,
}


def disagreements(name, path):
    for number, case in enumerate(json.loads(path.read_text())):
        try:
            CHECKS[name](case)
            yield None
        except Exception as error:  # also a fault of this reader, which must not end the list
            where = f"{name}: {case.get('name', number)} (docs/wire.md, section {case.get('section', '3 or 14')})"
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
