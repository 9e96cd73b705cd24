import { existsSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { startDevnet } from '../../node/cli/devnet/start-devnet.ts'
import { runConformance } from '../../src/ledger/conformance/conformance.ts'
import type { ConformanceReport } from '../../src/ledger/conformance/script.ts'
import type { Ledger } from '../../src/ledger/ledger.ts'
import { connectLedger } from '../../src/ledger/substrate.ts'
import { devAccount } from '../../src/ledger/substrate/dev-accounts.ts'
import { keyFromSeed, signerOf } from '../../src/ledger/substrate/key-derivation.ts'
import { silentLogger } from '../../src/log.ts'

const SPEC = process.env['CHORALE_HYPERTENSOR_SPEC'] ?? ''
const NAMES = [
  'read the pallet',
  'fund accounts in parallel',
  'register a subnet',
  'register four nodes',
  'delegate',
  'activate',
  'propose',
  'attest',
  'rewards',
  'bad proposal',
  'slash',
  'recover',
  'unbond',
  'undelegate',
  'claim',
]

async function conform(
  chainSpec: string | undefined,
  change: (ledger: Ledger) => Ledger = (ledger) => ledger,
): Promise<ConformanceReport> {
  const devnet = await startDevnet({
    mode: 'instant',
    port: 0,
    logger: silentLogger,
    ...(chainSpec !== undefined && { chainSpec }),
  })
  const ledger = await connectLedger(devnet.url)
  const random = (length: number): Uint8Array => crypto.getRandomValues(new Uint8Array(length))
  try {
    return await runConformance(change(ledger), {
      funder: signerOf(devAccount('alith')),
      newAccount: () => signerOf(keyFromSeed(random(32), 'ethereum')),
      random,
      makeBlocks: async (count) => void devnet.node.build(count),
    })
  } finally {
    await ledger.close()
    await devnet.close()
  }
}

describe('runConformance', () => {
  it('passes on the native dev chain', async () => {
    const report = await conform(undefined)
    expect(report.steps.filter(({ ok }) => !ok)).toEqual([])
    expect(report.steps.map(({ name }) => name)).toEqual(NAMES)
    expect(report).toMatchObject({ ok: true, chain: 'Chorale Development' })
    const slash = report.steps.find(({ name }) => name === 'slash')
    expect(slash?.events).toContain('Network.Slashing')
  }, 60_000)

  it('fails on a chain that slashes otherwise, and names the difference', async () => {
    const report = await conform(undefined, (ledger) => ({
      ...ledger,
      get status() {
        return ledger.status
      },
      storage: async (pallet, item, keys, at) =>
        item === 'BaseSlashPercentage' ? 10n ** 15n : ledger.storage(pallet, item, keys, at),
    }))
    expect(report.ok).toBe(false)
    expect(report.steps.find(({ name }) => name === 'slash')).toMatchObject({
      ok: false,
      detail: expect.stringMatching(/slashed is .*by the rules/) as string,
    })
  }, 60_000)

  it.skipIf(!existsSync(SPEC))(
    "passes on Hypertensor's own runtime",
    async () => {
      const report = await conform(SPEC)
      expect(report.steps.filter(({ ok }) => !ok)).toEqual([])
      expect(report.ok).toBe(true)
    },
    120_000,
  )
})
