// A node of the JavaScript libp2p with @libp2p/kad-dht that does what it is told, one JSON object a
// line, as described in ../README.md.
//
// usage: peer.mjs --protocol PROTOCOL [--client] [--unchecked]
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { ipnsSelector } from 'ipns/selector'
import { ipnsValidator } from 'ipns/validator'
import { createLibp2p } from 'libp2p'
import { CID } from 'multiformats/cid'
import { decode } from 'multiformats/hashes/digest'
import { createInterface } from 'node:readline'
import { setTimeout } from 'node:timers/promises'
import { parseArgs } from 'node:util'

// Longest wait for an answer, in milliseconds, far above what any needs.
const PATIENCE = 60_000

const { values: options } = parseArgs({
  options: { protocol: { type: 'string' }, client: { type: 'boolean' }, unchecked: { type: 'boolean' } }
})

const takesAll = async () => {}
const last = (_, records) => records.length - 1
const unchecked = { validators: { pk: takesAll, ipns: takesAll, sr: takesAll }, selectors: { pk: last, ipns: last, sr: last } }
const checked = { validators: { ipns: ipnsValidator, sr: takesAll }, selectors: { ipns: ipnsSelector, sr: last } }

const node = await createLibp2p({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  // It would not dial loopback addresses otherwise.
  connectionGater: { denyDialMultiaddr: () => false },
  // All its peers have one address, and it takes five connections a second from each.
  connectionManager: { inboundConnectionThreshold: Infinity },
  services: {
    identify: identify(),
    ping: ping(),
    dht: kadDHT({
      protocol: options.protocol,
      clientMode: options.client ?? false,
      peerInfoMapper: passthroughMapper,
      allowQueryWithZeroPeers: true,
      ...(options.unchecked ? unchecked : checked)
    })
  }
})
const { dht } = node.services

const bytes = (hex) => Uint8Array.from(Buffer.from(hex, 'hex'))
const content = (hex) => CID.createV1(0x55, decode(bytes(hex)))

async function connect (address, signal) {
  const { remotePeer } = await node.dial(multiaddr(address), { signal })
  while (await dht.routingTable.find(remotePeer) == null) {
    if (signal.aborted) throw new Error('the peer does not come into the routing table')
    await setTimeout(20)
  }
}

async function answer (request) {
  const signal = AbortSignal.timeout(PATIENCE)
  switch (request.do) {
    case 'connect':
      await connect(request.address, signal)
      return {}
    case 'put':
      for await (const _ of dht.put(bytes(request.key), bytes(request.value), { signal })) { /* to its end */ }
      return {}
    case 'get': {
      let value
      for await (const event of dht.get(bytes(request.key), { signal })) {
        if (event.name === 'VALUE') value = event.value
      }
      if (value == null) throw new Error('not found')
      return { value: Buffer.from(value).toString('hex') }
    }
    case 'provide':
      for await (const _ of dht.provide(content(request.multihash), { signal })) { /* to its end */ }
      return {}
    case 'providers': {
      const peers = []
      for await (const event of dht.findProviders(content(request.multihash), { signal })) {
        if (event.name === 'PROVIDER') peers.push(...event.providers.map(({ id }) => id.toString()))
      }
      return { peers }
    }
  }
  throw new Error(`unknown: ${request.do}`)
}

console.log(JSON.stringify({ address: node.getMultiaddrs()[0].toString() }))
for await (const line of createInterface({ input: process.stdin })) {
  const reply = await answer(JSON.parse(line)).catch((error) => ({ error: String(error) }))
  console.log(JSON.stringify(reply))
}
process.exit()
