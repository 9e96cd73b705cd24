import { describe, expect, it } from 'vitest'
import { pictureOf, pictureText } from '../../node/cli/swarm/picture.ts'
import { createStyle } from '../../node/cli/terminal.ts'
import type { SubnetView } from '../../node/subnet-view.ts'
import { coverModel } from '../../src/routing/model-coverage.ts'
import type { ModelRecord, ServerRecord } from '../../src/routing/snapshot.ts'
import type { NetworkModel } from '../../src/session/network-models.ts'

const plain = createStyle(process.stdout, { NO_COLOR: '1' })
const model = { modelId: 'tale@1', name: 'tale', blockCount: 2, hiddenSize: 64 }
const record = (peerId: string): ServerRecord => ({
  peerId,
  addrs: [],
  modelId: model.modelId,
  start: 0,
  end: 2,
  state: 'online',
  throughput: 1,
  freeKvTokens: 1,
  sessions: 0,
  engine: 'wasm',
  precision: 'f32',
  version: 'chorale/1',
  issuedAt: 0,
  expiresAt: 1,
})
const served = (records: readonly ServerRecord[], changes: Partial<ModelRecord> = {}): NetworkModel => ({
  model: { ...model, ...changes },
  records,
  ...coverModel(model.blockCount, records),
})
const both = served([record('peer-staked-1'), record('stranger-2')])
const subnet: SubnetView = {
  url: 'ws://127.0.0.1:9944',
  genesisHash: '0x00',
  chain: 'Test\u001b[31m',
  token: 'TENSOR',
  subnetId: 7,
  name: 'local',
  state: 'Active',
  block: 59,
  epoch: 2,
  progress: 0.8,
  elected: 'peer-staked-1',
  proposed: true,
  attestation: 2 / 3,
  lastAttestation: 1,
  nodes: [{ id: 3, peerId: 'peer-staked-1', class: 'Validator', stake: '200.5', reputation: 0.95 }],
}

describe('pictureOf with a subnet', () => {
  const picture = pictureOf(both, [both], 0, subnet)

  it('puts the ledger’s word beside each server; null for one that is no node', () => {
    expect(picture.servers.map(({ node }) => node)).toEqual([subnet.nodes[0], null])
    expect(picture.subnet).toEqual(subnet)
  })

  it('shows class, stake, epoch, elected node and attestations, without control characters', () => {
    const text = pictureText(picture, plain)
    expect(text).toMatch(/PEER .* CLASS\s+STAKE\s+ADDRESS/)
    expect(text).toMatch(/staked-1 .* Validator\s+200\.5/)
    expect(text).toMatch(/ranger-2 .* –\s+–/)
    expect(text).toContain('epoch 2, 80 % over; elected: node 3 (…staked-1); proposed, attested by 67 %')
    expect(text).toContain('last epoch: attested by 100 % of the validators')
    expect(text).not.toContain('\u001b')
  })

  it('shows the subnet when nobody serves, and says when nothing was proposed', () => {
    const silent = { ...subnet, proposed: false, attestation: null, lastAttestation: null }
    const text = pictureText(pictureOf(undefined, [], 0, silent), plain)
    expect(text).toMatch(/nobody serves a model/)
    expect(text).toContain('nothing proposed yet')
    expect(text).toContain('last epoch: nothing was proposed')
  })

  it('has neither columns nor lines of a ledger without one', () => {
    expect(pictureText(pictureOf(served([record('a')]), [], 0), plain)).not.toMatch(/STAKE|epoch/)
  })
})

describe('pictureOf with several models', () => {
  const whole = served([record('a')])
  const short = served([{ ...record('b'), end: 1 }], {
    modelId: 'tale-q4@2',
    name: 'tale\u001b[2J-q4',
    precision: 'q4_0',
    revision: 'c'.repeat(40),
  })
  const picture = pictureOf(whole, [whole, short], 0)

  it('lists each: complete or short of which blocks, weakest block, servers, precision, revision', () => {
    expect(picture.models).toEqual([
      {
        id: 'tale@1',
        name: 'tale',
        blocks: 2,
        complete: true,
        missing: [],
        weakest: { block: 0, servers: 1 },
        servers: 1,
        sessions: 0,
        revision: null,
        precision: null,
      },
      {
        id: 'tale-q4@2',
        name: short.model.name,
        blocks: 2,
        complete: false,
        missing: [{ start: 1, end: 2 }],
        weakest: { block: 1, servers: 0 },
        servers: 1,
        sessions: 0,
        revision: 'c'.repeat(40),
        precision: 'q4_0',
      },
    ])
  })

  it('as a table without control characters; none where there is one model', () => {
    const text = pictureText(picture, plain)
    expect(text).toMatch(/MODEL +DIGEST +WEIGHTS +REVISION +BLOCKS +SERVERS +STATE/)
    expect(text).toMatch(/tale +1 +– +– +2 +1 +complete, weakest block 0 \(1 server\)/)
    expect(text).toMatch(/q4 +2 +q4_0 +cccccccccccc +2 +1 +no server for 1:2/)
    expect(text).not.toContain('\u001b')
    expect(pictureText(pictureOf(whole, [whole], 0), plain)).not.toMatch(/MODEL/)
  })
})
