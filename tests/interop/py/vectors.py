#!/usr/bin/env python3
"""Signed records and public keys to and from py-libp2p (PyPI package `libp2p`).

    python3 tests/interop/py/vectors.py make    # writes what py-libp2p makes
    python3 tests/interop/py/vectors.py check   # makes it again and compares; checks ours

`scripts/interop` installs what it needs and checks.

Everything is made from fixed keys and is the same on every run.
"""

import json
import pathlib
import sys

VECTORS = pathlib.Path(__file__).resolve().parents[3] / "tests" / "vectors"
HERE = VECTORS / "py-libp2p"

from libp2p.crypto.ed25519 import Ed25519PrivateKey
from libp2p.crypto.rsa import RSAPrivateKey
from libp2p.crypto.secp256k1 import Secp256k1PrivateKey
from libp2p.peer.envelope import (
    Envelope,
    make_unsigned,
    seal_record,
    unmarshal_envelope,
)
from libp2p.peer.id import ID
from libp2p.peer.peer_record import PeerRecord
from libp2p.records.pubkey import PublicKeyValidator
from libp2p.utils.varint import encode_uvarint

DOMAIN = "libp2p-signed-record"
PAYLOAD_TYPE = b"/libp2p-signed-record/record"


def uvarint(field, number):
    return encode_uvarint(field << 3) + encode_uvarint(number)


def text(field, data):
    return encode_uvarint(field << 3 | 2) + encode_uvarint(len(data)) + data


def record(key, value, sequence, expires_at):
    """The message `Record` of proto/signed_record.proto."""
    message = text(1, key) if key else b""
    message += text(2, value) if value else b""
    message += uvarint(3, sequence) if sequence else b""
    message += uvarint(4, expires_at) if expires_at is not None else b""
    return message


def marshal(envelope):
    """As `Envelope.marshal_envelope`, but the public key as the peer id specification has it.

    py-libp2p 0.8.1 leaves out the type of an RSA key there, which is zero. The specification asks
    for it, and so does this crate: of a key with two encodings nobody could say which peer it is.
    """
    fields = [
        (1, envelope.public_key.serialize()),
        (2, envelope.payload_type),
        (3, envelope.raw_payload),
        (5, envelope.signature),
    ]
    return b"".join(text(field, data) for field, data in fields)


def seal(private_key, payload, domain=DOMAIN, payload_type=PAYLOAD_TYPE):
    signature = private_key.sign(make_unsigned(domain, payload_type, payload))
    return Envelope(private_key.get_public_key(), payload_type, payload, signature)


def private_keys():
    return {
        "ed25519": Ed25519PrivateKey.new(bytes(range(32))),
        "secp256k1": Secp256k1PrivateKey.from_bytes(bytes([5] * 32)),
        "rsa": RSAPrivateKey.from_bytes((VECTORS / "rsa-2048.pk8").read_bytes()),
    }


def make():
    contents = [
        (b"/notes/a", b"hello", 1, None),
        (b"/notes/a", b"", 0, None),
        ("/notes/\u00fcber".encode(), bytes(range(256)), 1_700_000_000_000_000, 1_800_000_000_000),
        (b"/notes/" + b"k" * 249, b"v" * 300, 2**40, 1),
    ]
    records, public_keys = [], []
    for key_type, private_key in private_keys().items():
        public_key = private_key.get_public_key()
        author = ID.from_pubkey(public_key)
        for key, value, sequence, expires_at in contents:
            envelope = marshal(seal(private_key, record(key, value, sequence, expires_at)))
            unmarshal_envelope(envelope).validate(DOMAIN)
            records.append(
                {
                    "key_type": key_type,
                    "author": author.to_base58(),
                    "key": key.hex(),
                    "value": value.hex(),
                    "sequence": sequence,
                    "expires_at": expires_at,
                    "envelope": envelope.hex(),
                }
            )
        value = public_key.serialize()
        # py-libp2p writes the path of such a key in hex, others as raw bytes.
        PublicKeyValidator().validate(f"/pk/{author.to_bytes().hex()}", value)
        public_keys.append(
            {
                "key_type": key_type,
                "peer_id": author.to_base58(),
                "key": (b"/pk/" + author.to_bytes()).hex(),
                "value": value.hex(),
            }
        )

    alice = private_keys()["ed25519"]
    payload = record(*contents[0])
    peer_record = PeerRecord(ID.from_pubkey(alice.get_public_key()), [], seq=1)
    refused = {
        "a peer record": seal_record(peer_record, alice).marshal_envelope(),
        "signed for another domain": marshal(seal(alice, payload, domain="libp2p-peer-record")),
        "of another payload type": marshal(seal(alice, payload, payload_type=b"\x03\x01")),
        "not canonical": marshal(seal(alice, payload + b"\x18\x02")),
        "an RSA key without its type": seal(private_keys()["rsa"], payload).marshal_envelope(),
    }
    return {
        "signed-records.json": records,
        "refused-records.json": [
            {"what": what, "envelope": envelope.hex()} for what, envelope in refused.items()
        ],
        "public-keys.json": public_keys,
    }


def to_json(value):
    return json.dumps(value, indent=1) + "\n"


def check_ours():
    """What this crate signs; crates/formats/tests/formats/signed/vectors.rs keeps the file current.
    """
    vectors = json.loads((HERE / "ours.json").read_text())
    for vector in vectors:
        data = bytes.fromhex(vector["envelope"])
        envelope = unmarshal_envelope(data)
        envelope.validate(DOMAIN)
        assert envelope.payload_type == PAYLOAD_TYPE
        assert ID.from_pubkey(envelope.public_key).to_base58() == vector["author"]
        key, value = bytes.fromhex(vector["key"]), bytes.fromhex(vector["value"])
        expected = record(key, value, vector["sequence"], vector["expires_at"])
        assert envelope.raw_payload == expected, vector
        assert marshal(envelope) == data

        envelope.raw_payload = expected + b"\x00"
        try:
            envelope.validate(DOMAIN)
        except ValueError:
            continue
        raise AssertionError("a changed record has passed")
    assert vectors
    print(f"py-libp2p accepts {len(vectors)} records of ours")


def main():
    command = sys.argv[1:] or ["check"]
    files = make()
    if command == ["make"]:
        for name, vectors in files.items():
            (HERE / name).write_text(to_json(vectors))
            print(f"wrote {name}")
    elif command == ["check"]:
        for name, vectors in files.items():
            assert (HERE / name).read_text() == to_json(vectors), f"{name} is out of date"
            print(f"{name} is current")
        check_ours()
    else:
        sys.exit(__doc__)


main()
