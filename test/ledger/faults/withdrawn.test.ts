import { afterEach, describe, expect, it } from 'vitest'
import { removeNode } from '../../../src/ledger/calls.ts'
import { createStakeSet } from '../../../src/ledger/stake-set.ts'
import { connectLedger } from '../../../src/ledger/substrate.ts'
import { createChain } from '../../../src/session/chain-span.ts'
import { memoryDirectory, memoryDirectoryState } from '../../../src/session/memory-directory.ts'
import { createIdentity } from '../../../src/swarm/identity.ts'
import { connectRemoteSpan } from '../../../src/swarm/remote-span.ts'
import { createStakeGate } from '../../../src/swarm/stake-gate.ts'
import type { Tensor } from '../../../src/tensor/tensor.ts'
import { fakeSpan } from '../../swarm/fake-span.ts'
import { HIDDEN, loopbackPeer, MODEL_ID, serveFake, targetOf, TCP, until } from '../../swarm/loopback.ts'
import { faultyNode } from './faulty-node.ts'
import { COLDKEYS, foundSubnet, notElected } from './found-subnet.ts'

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

const SPANS = [
  [0, 2],
  [2, 4],
  [2, 4],
  [4, 6],
] as const

describe('stake withdrawn mid-answer, by its coldkey on a dev chain', () => {
  it.each([
    ['pushed', true],
    ['carried by the client', false],
  ])(
    'cut before the next block; the answer completes elsewhere, equal (%s)',
    async (_, push) => {
      const chain = await faultyNode()
      closers.push(() => chain.close())
      const ids = await Promise.all([...SPANS, 'client'].map(() => createIdentity()))
      const ledger = await connectLedger(chain.url)
      closers.push(() => ledger.close())
      const subnetId = await foundSubnet(
        chain.node,
        ledger,
        SPANS.map((__, i) => ids[i]!.peerId),
        { client: ids[4]!.peerId },
      )
      const nodes = await ledger.nodes(subnetId)
      const idOf = (peerId: string): number => nodes.find((node) => node.peerId === peerId)!.id

      /** With a ledger connection of its own, as another machine has. */
      const member = async (i: number, listen?: readonly string[]) => {
        const own = await connectLedger(chain.url)
        const stakes = await createStakeSet({ ledger: own, subnetId })
        const gate = createStakeGate({ stakes })
        const peer = await loopbackPeer({ identity: ids[i]!, gate, ...(listen && { listen }) })
        closers.push(async () => {
          await peer.close()
          gate.close()
          stakes.close()
          await own.close()
        })
        return peer
      }
      const state = memoryDirectoryState()
      const model = { modelId: MODEL_ID, name: 'fake', blockCount: 6, hiddenSize: HIDDEN }
      const servers = await Promise.all(
        SPANS.map(async ([start, end], i) => {
          const peer = await member(i, [TCP])
          const engine = fakeSpan({ start, end, kvTokens: 64 })
          const { service } = await serveFake(peer, engine)
          await memoryDirectory(state, peer.id).announce(
            {
              ...targetOf(peer, engine),
              state: 'online',
              throughput: 1000,
              freeKvTokens: 64,
              sessions: 0,
              precision: 'f32',
              version: '0',
              issuedAt: 0,
              expiresAt: Number.MAX_SAFE_INTEGER,
            },
            model,
          )
          return { peer, engine, service }
        }),
      )
      const client = await member(4)
      const runner = createChain({
        model,
        directory: memoryDirectory(state, client.id),
        connect: (server) => connectRemoteSpan(client, server, { hiddenSize: HIDDEN }),
        openWaitMs: 0,
        push,
        bans: { baseMs: 50, maxMs: 100 },
      })
      /** Nine steps; in the middle `onMiddle` is told who computes blocks 2:4. */
      const answer = async (onMiddle: (peer: string) => Promise<void>) => {
        const failovers: string[] = []
        const session = await runner.open({
          maxTokens: 32,
          onFailover: ({ reason }) => failovers.push(reason),
        })
        const prompt = Float32Array.from({ length: 5 * HIDDEN }, (__, i) => Math.sin(i))
        const outputs: Tensor[] = [await session.step({ shape: [5, HIDDEN], data: prompt }, { want: 'last' })]
        for (let step = 0; step < 8; step++) {
          if (step === 4) await onMiddle(session.route[1]!.peer)
          const last = outputs.at(-1)
          outputs.push(await session.step({ shape: last.shape, data: last.data.map((value) => value / 64) }))
        }
        const by = session.route[1]!.peer
        await session.close()
        return { outputs, failovers, by }
      }
      const undisturbed = await answer(() => Promise.resolve())
      await notElected(
        chain.node,
        ledger,
        subnetId,
        [1, 2].map((replica) => idOf(ids[replica]!.peerId)),
      )
      let cut = ''
      const disturbed = await answer(async (peer) => {
        cut = peer
        const i = servers.findIndex((server) => server.peer.id === peer)
        const { blockNumber } = await ledger.submit(removeNode(subnetId, idOf(peer)), COLDKEYS[i]!)
        await until(() => servers[i]!.service.streams === 0, 'its sessions are cut')
        // No block came after the one that holds the withdrawal.
        expect(chain.node.chain.head.header.number).toBe(blockNumber)
      })
      expect(disturbed.outputs).toEqual(undisturbed.outputs)
      expect(disturbed.failovers).toHaveLength(1)
      expect(disturbed.by).not.toBe(cut)
      await until(() => servers.every(({ engine }) => engine.kvTokensFree === 64), 'all leases are free')
    },
    15_000,
  )
})
