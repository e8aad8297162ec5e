"""A node of py-libp2p that does what it is told, one JSON object a line, as described in
../README.md.

usage: peer.py --protocol PROTOCOL [--client] [--unchecked]
"""

import argparse
import json
import sys

import multiaddr
import trio
from libp2p import new_host
from libp2p.kad_dht import common, kad_dht, peer_routing, provider_store, value_store
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.records.ipns import IPNSValidator
from libp2p.records.pubkey import PublicKeyValidator
from libp2p.records.validator import NamespacedValidator, Validator
from libp2p.tools.anyio_service import background_trio_service

arguments = argparse.ArgumentParser()
arguments.add_argument("--protocol", required=True)
arguments.add_argument("--client", action="store_true")
arguments.add_argument("--unchecked", action="store_true")
options = arguments.parse_args()
# Its protocol is a constant, of which each module has a copy.
for module in (common, kad_dht, peer_routing, provider_store, value_store):
    module.PROTOCOL_ID = options.protocol

# Longest wait for an answer, in seconds, far above what any needs.
PATIENCE = 60


class TakesAll(Validator):
    """Takes every value, and the one that came last for the best.

    The new value is the first of two when the node puts it, and the second when it is put to the
    node.
    """

    def __init__(self):
        self.came = []

    def validate(self, key, value):
        self.came.append(value)

    def select(self, key, values):
        last = next(value for value in reversed(self.came) if value in values)
        return values.index(last)


async def connect(host, dht, address):
    peer = info_from_p2p_addr(multiaddr.Multiaddr(address))
    await host.connect(peer)
    while peer.peer_id not in dht.routing_table.get_peer_ids():
        await dht.add_peer(peer.peer_id)
        await trio.sleep(0.02)


async def answer(host, dht, request):
    # Keys are text there.
    text = lambda field: bytes.fromhex(request[field]).decode()
    match request["do"]:
        case "connect":
            await connect(host, dht, request["address"])
        case "put":
            await dht.put_value(text("key"), bytes.fromhex(request["value"]))
        case "get":
            value = await dht.get_value(text("key"))
            if value is None:
                raise KeyError("not found")
            return {"value": value.hex()}
        case "provide":
            await dht.provider_store.provide(bytes.fromhex(request["multihash"]))
        case "providers":
            found = await dht.provider_store.find_providers(bytes.fromhex(request["multihash"]))
            return {"peers": [str(peer.peer_id) for peer in found]}
        case other:
            raise ValueError(f"unknown: {other}")
    return {}


async def main():
    everything = TakesAll()
    validator = NamespacedValidator(
        {"pk": everything, "ipns": everything, "sr": everything}
        if options.unchecked
        else {"pk": PublicKeyValidator(), "ipns": IPNSValidator(), "sr": everything},
        strict_validation=True,
    )
    listen = [multiaddr.Multiaddr("/ip4/127.0.0.1/tcp/0")]
    host = new_host(listen_addrs=listen)
    mode = DHTMode.CLIENT if options.client else DHTMode.SERVER
    async with host.run(listen_addrs=listen):
        dht = KadDHT(host, mode, validator=validator, validator_changed=True, strict_validation=True)
        async with background_trio_service(dht):
            address = str(host.get_addrs()[0])
            print(json.dumps({"address": address}), flush=True)
            while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
                try:
                    with trio.fail_after(PATIENCE):
                        reply = await answer(host, dht, json.loads(line))
                except Exception as error:
                    reply = {"error": repr(error)}
                print(json.dumps(reply), flush=True)


trio.run(main)
