import { describe, expect, it } from 'vitest'
import { pictureOf, pictureText } from '../../node/cli/swarm/picture.ts'
import { createStyle } from '../../node/cli/terminal.ts'
import type { SubnetView } from '../../node/subnet-view.ts'
import type { ServerRecord } from '../../src/routing/snapshot.ts'

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
  const picture = pictureOf(model, [model], [record('peer-staked-1'), record('stranger-2')], 0, subnet)

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
    const text = pictureText(pictureOf(undefined, [], [], 0, silent), plain)
    expect(text).toMatch(/nobody serves a model/)
    expect(text).toContain('nothing proposed yet')
    expect(text).toContain('last epoch: nothing was proposed')
  })

  it('has neither columns nor lines of a ledger without one', () => {
    expect(pictureText(pictureOf(model, [model], [record('a')], 0), plain)).not.toMatch(/STAKE|epoch/)
  })
})
