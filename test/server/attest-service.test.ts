import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ChoraleError } from '../../src/errors.ts'
import { createClient } from '../../src/session/client.ts'
import type { LanguageModel } from '../../src/session/language-model.ts'
import { createTokenizer } from '../../src/tokenizer/hf-tokenizer.ts'
import { connectRemoteSpan } from '../../src/swarm/remote-span.ts'
import { type DutyServer, type DutySwarm, dutySwarm, pollUntil, TOKEN } from './duty-swarm.ts'

const PROMPT = 'Once upon a time there was a small'

describe('startDuties', { timeout: 120_000 }, () => {
  let swarm: DutySwarm
  let local: LanguageModel
  let expected: string
  /** Serves the same blocks as the second one, and will lie. */
  let liar: DutyServer

  beforeAll(async () => {
    swarm = await dutySwarm([
      { start: 0, end: 4 },
      { start: 4, end: 8 },
      { start: 0, end: 4 },
      { start: 4, end: 8 },
    ])
    liar = swarm.servers[3]!
    const { model, engine } = swarm
    const tokenizer = createTokenizer((await model.tokenizerFiles())!, model.spec)
    local = await createClient({ model, tokenizer, engine, backend: { kind: 'local', kvTokens: 256 } })
    expected = (await answer(local)).text
  }, 120_000)
  afterAll(async () => {
    await local?.close()
    await swarm?.close()
  })

  async function answer(from: LanguageModel) {
    const promptIds = from.tokenizer.encode(PROMPT)
    let text = ''
    for await (const event of from.generate({ promptIds, maxTokens: 24, sampling: { temperature: 0 } })) {
      if ('text' in event) text += event.text
      if (event.type === 'done') return { text, peers: event.route.map(({ peer }) => peer) }
    }
    throw new ChoraleError('internal', 'no end')
  }

  /** Asks over some of the servers. */
  async function ask(through: readonly DutyServer[] = swarm.servers) {
    const { model, engine, client, record } = swarm
    const allowed = new Set(through.map(({ peer }) => peer.id))
    const chain = await createClient({
      model,
      tokenizer: local.tokenizer,
      engine,
      drafts: false,
      backend: {
        kind: 'chain',
        connect: (server) => connectRemoteSpan(client.peer, server, { hiddenSize: record.hiddenSize }),
        directory: {
          ...client.directory,
          servers: async (modelId, signal) =>
            (await client.directory.servers(modelId, signal)).filter(({ peerId }) => allowed.has(peerId)),
        },
      },
    })
    const sessions = () => through.reduce((sum, { server }) => sum + server.sessions, 0)
    try {
      return await answer(chain)
    } finally {
      await chain.close()
      await pollUntil(() => sessions() === 0, 'sessions are closed')
    }
  }

  it('honest servers: proposed, attested by all, paid, audited', async () => {
    const { servers, ledger, subnetId } = swarm
    await swarm.nextEpoch()
    for (const through of [servers.slice(0, 2), servers.slice(2)]) {
      const said = await ask(through)
      expect(said.text).toBe(expected)
      expect(said.peers).toEqual(through.map(({ peer }) => peer.id))
    }
    const stakes = async () => new Map((await ledger.nodes(subnetId)).map(({ id, stake }) => [id, stake]))
    const before = await stakes()
    await swarm.nextEpoch()
    const { epoch } = servers[0]!.duties.state!
    const consensus = await ledger.consensus(subnetId, epoch!)
    expect(consensus?.proposer).toBe(servers[0]!.duties.state!.elected)
    expect(consensus?.attestors).toHaveLength(4)
    expect(consensus?.scores).toHaveLength(4)
    expect(consensus!.scores.every(({ score }) => score > 0n)).toBe(true)
    const duties = servers.map((one) => one.duties.state!.duty)
    expect(duties.filter((duty) => duty.includes('proposed'))).toHaveLength(1)
    const findings = servers.flatMap((one) => one.duties.state!.findings)
    expect(findings.length).toBeGreaterThan(0)
    expect(new Set(findings.map(({ outcome }) => outcome))).toEqual(new Set(['passed']))
    await swarm.nextEpoch()
    const after = await stakes()
    for (const id of before.keys()) expect(after.get(id)! > before.get(id)!).toBe(true)
    for (const one of servers) expect(one.duties.state).toMatchObject({ lastAttestation: 1_000 })
    expect(servers[0]!.metrics.render()).toContain('chorale_duties_last_attestation_ratio 1\n')
    // Spans of others are loaded beside the own one, spans like the own one are not.
    expect(servers[0]!.loads.slice(1).every(({ start }) => start === 4)).toBe(true)
  })

  it('a lying server is found, accused, voted out: stake, routes and sessions are gone', async () => {
    const { servers, ledger, subnetId, client } = swarm
    const honest = servers.slice(0, 3)
    const supply = (await ledger.nodes(subnetId)).find(({ id }) => id === liar.nodeId)!.stake
    expect(supply >= 200n * TOKEN).toBe(true)
    liar.factor = 1.05
    for (let epoch = 0; epoch < 12; epoch++) {
      if ((await ledger.nodes(subnetId)).every(({ id }) => id !== liar.nodeId)) break
      const accused = (await ledger.disputes(subnetId)).some(
        ({ defendant, outcome }) => defendant === liar.nodeId && outcome === 'open',
      )
      if (!accused) await ask([servers[0]!, liar]).catch(() => undefined)
      await swarm.nextEpoch()
    }
    const disputes = await ledger.disputes(subnetId)
    const dispute = disputes.find(({ defendant }) => defendant === liar.nodeId)
    expect(dispute?.outcome).toBe('upheld')
    // As an accountant it may have accused others, whose numbers are not like its own.
    for (const other of disputes) if (other !== dispute) expect(other.outcome).not.toBe('upheld')
    // It held itself for innocent, by the same numbers; the other two had the last word.
    expect(dispute!.challengeBlock).toBeDefined()
    expect(dispute!.yay.toSorted((a, b) => a - b)).toEqual(honest.map(({ nodeId }) => nodeId))
    expect((await ledger.nodes(subnetId)).map(({ id }) => id)).not.toContain(liar.nodeId)
    await pollUntil(() => !client.gate.check(liar.peer.id, 'serve').ok, 'the client knows')
    for (const { gate } of honest) expect(gate.check(liar.peer.id, 'connect')).toMatchObject({ ok: false })
    expect((await client.directory.servers(swarm.model.id)).map(({ peerId }) => peerId)).not.toContain(
      liar.peer.id,
    )
    const said = await ask()
    expect(said.text).toBe(expected)
    expect(said.peers).toContain(servers[1]!.peer.id)
    const proofs = honest.map((one) => /fault_proofs_total (\d+)/.exec(one.metrics.render())?.[1])
    expect(proofs.some((count) => Number(count) > 0)).toBe(true)
  })
})
