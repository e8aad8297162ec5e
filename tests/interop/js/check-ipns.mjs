// Lets the npm package `ipns` judge our records: a file with one JSON object in a line, as the
// example `emit_ipns` prints them. `scripts/interop-ipns` runs it.

import { readFileSync } from 'node:fs'
import { multihashFromIPNSRoutingKey, unmarshalIPNSRecord } from 'ipns'
import { ipnsSelector } from 'ipns/selector'
import { ipnsValidator } from 'ipns/validator'

const lines = readFileSync(process.argv[2], 'utf8').trim().split('\n').map((line) => JSON.parse(line))
const bytes = (hex) => Uint8Array.from(Buffer.from(hex, 'hex'))
let failures = 0

function expect (what, field, ours, theirs) {
  if (ours !== theirs) {
    console.error(`${what}: ${field} is ${theirs}, not ${ours}`)
    failures += 1
  }
}

for (const { what, accepted, value, sequence, ttl, validity, key, record } of lines) {
  const [routingKey, marshalled] = [bytes(key), bytes(record)]
  const verdict = await ipnsValidator(routingKey, marshalled).then(() => true, (error) => error.message)
  expect(what, 'the verdict', accepted, accepted ? verdict : verdict === true)
  if (!accepted) continue
  const read = unmarshalIPNSRecord(marshalled)
  expect(what, 'the value', value, read.value)
  expect(what, 'the sequence', sequence, read.sequence.toString())
  expect(what, 'the ttl', ttl, read.ttl?.toString())
  expect(what, 'the validity', validity, read.validity)
  expect(what, 'the name', true, multihashFromIPNSRoutingKey(routingKey) !== undefined)
}

// For each name, the best of its records is the one that they say is.
for (const key of new Set(lines.map((line) => line.key))) {
  const records = lines.filter((line) => line.accepted && line.key === key)
  if (records.length === 0) continue
  const best = ipnsSelector(bytes(key), records.map((line) => bytes(line.record)))
  expect(key, 'the best record', true, records[best].is_best)
}

if (lines.length === 0 || failures > 0) {
  console.error(`${failures} failures in ${lines.length} records`)
  process.exit(1)
}
console.log(`the npm package ipns agrees about ${lines.length} records of ours`)
