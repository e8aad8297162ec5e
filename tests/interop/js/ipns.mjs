// Prints test vectors as JSON: IPNS records that the npm package `ipns` has made, some of them
// damaged, and whether it accepts them. `scripts/interop-ipns` installs what this needs and runs
// it.
//
// The keys are fixed and all signatures deterministic, so every run prints the same.

import { createPrivateKey } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { generateKeyPairFromSeed, privateKeyFromProtobuf } from '@libp2p/crypto/keys'
import {
  createIPNSRecordWithExpiration, marshalIPNSRecord, multihashToIPNSRoutingKey
} from 'ipns'
import { ipnsValidator } from 'ipns/validator'

const hex = (bytes) => Buffer.from(bytes).toString('hex')

/** A private key as libp2p encodes it: its type, then its bytes. */
function privateKey (type, data) {
  const length = data.length < 128 ? [data.length] : [data.length & 127 | 128, data.length >> 7]
  return privateKeyFromProtobuf(Uint8Array.from([8, type, 18, ...length, ...data]))
}

function rsaKey () {
  const der = readFileSync(new URL('../../vectors/rsa-2048.pk8', import.meta.url))
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
  return privateKey(0, key.export({ format: 'der', type: 'pkcs1' }))
}

const keys = {
  ed25519: await generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(1)),
  secp256k1: privateKey(2, new Uint8Array(32).fill(5)),
  rsa: rsaKey()
}

const LIVES = '2123-11-14T22:13:20.123456789Z'
const EXPIRED = '2020-01-01T00:00:00Z'

const vectors = []

async function add (what, key, record) {
  const routingKey = multihashToIPNSRoutingKey(key.publicKey.toMultihash())
  const bytes = marshalIPNSRecord(record)
  const accepted = await ipnsValidator(routingKey, bytes).then(() => true, () => false)
  vectors.push({
    what,
    accepted,
    value: record.value,
    sequence: record.sequence.toString(),
    validity: record.validity,
    ttl: record.ttl?.toString() ?? null,
    key: hex(routingKey),
    record: hex(bytes)
  })
}

for (const [type, key] of Object.entries(keys)) {
  const create = (value, sequence, expiration, options) =>
    createIPNSRecordWithExpiration(key, value, sequence, expiration, { v1Compatible: true, ...options })
  const good = await create('/ipfs/bafkqaddimvwgy3zao5xxe3debi', 7n, LIVES)

  await add(`${type}: version 1 and 2`, key, good)
  await add(`${type}: version 2 only`, key, await create(good.value, 8n, LIVES, { v1Compatible: false }))
  await add(`${type}: all zeros`, key, await create('/ipns/example.com', 0n, '2100-01-01T00:00:00Z', { ttlNs: 0 }))
  await add(`${type}: great numbers`, key, await create('/ipfs/bafkqaaa/a/b', 2n ** 63n - 1n, '9999-12-31T23:59:59.999999999Z', { ttlNs: 2n ** 63n - 1n }))
  await add(`${type}: an unsigned great number`, key, await create(good.value, 2n ** 64n - 1n, LIVES))
  await add(`${type}: expired`, key, await create(good.value, 7n, EXPIRED))
  await add(`${type}: version 1 only`, key, { ...good, signatureV2: undefined, data: undefined })
  await add(`${type}: version 1 has another value`, key, { ...good, value: '/ipfs/bafkqaaa' })
  await add(`${type}: version 1 has another validity`, key, { ...good, validity: '2123-11-14T22:13:20Z' })
  await add(`${type}: version 1 has another sequence`, key, { ...good, sequence: 8n })
  await add(`${type}: version 1 has another ttl`, key, { ...good, ttl: 1n })
  await add(`${type}: version 1 has a broken signature`, key, { ...good, signatureV1: good.signatureV1.map((b) => b ^ 1) })
  await add(`${type}: version 2 has a broken signature`, key, { ...good, signatureV2: good.signatureV2.map((b, i) => i === 40 ? b ^ 1 : b) })
  await add(`${type}: the signature of version 1 in the place of that of version 2`, key, { ...good, signatureV2: good.signatureV1 })
}

const { ed25519, rsa, secp256k1 } = keys
const create = (key) => createIPNSRecordWithExpiration(key, '/ipfs/bafkqaaa', 1n, LIVES)
await add('a record of another name', ed25519, await create(secp256k1))
await add('a record of another name, with its key', ed25519, await create(rsa))
await add('a name that is a hash, without the key', rsa, { ...await create(rsa), pubKey: undefined })
await add('a record with the key of another name', rsa, { ...await create(ed25519), pubKey: (await create(rsa)).pubKey })

console.log(JSON.stringify(vectors, null, 2))
