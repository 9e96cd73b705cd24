import { existsSync } from 'node:fs'
import { startDevnet } from '../../node/cli/devnet/start-devnet.ts'
import { DEV_ACCOUNTS, DEV_BALANCE } from '../../src/ledger/devnet/dev-genesis.ts'
import { createNativeChain } from '../../src/ledger/devnet/native/native-chain.ts'
import { createNativeLedger } from '../../src/ledger/devnet/native/native-ledger.ts'
import { createNativeRuntime } from '../../src/ledger/devnet/native/runtime.ts'
import { connectLedger } from '../../src/ledger/substrate.ts'
import { silentLogger } from '../../src/log.ts'
import { type LedgerChain, ledgerContract } from '../contract/ledger-contract.ts'

const SPEC = process.env['CHORALE_HYPERTENSOR_SPEC'] ?? ''
const BLOCK_MS = 6000

ledgerContract('the native chain in this process', async (): Promise<LedgerChain> => {
  const native = createNativeRuntime({
    blockMs: BLOCK_MS,
    endowed: Object.fromEntries(DEV_ACCOUNTS.map(({ address }) => [address, DEV_BALANCE])),
  })
  const chain = createNativeChain(native, BLOCK_MS, 0)
  const ledger = createNativeLedger(chain)
  return {
    ledger,
    makeBlocks: async (count) => void chain.produce(count),
    close: () => ledger.close(),
  }
})

ledgerContract('a node URL, native runtime', () => overWebSocket(undefined))

if (existsSync(SPEC)) {
  ledgerContract("a node URL, Hypertensor's own runtime", () => overWebSocket(SPEC))
} else {
  process.stdout.write(
    "skipped: Ledger over Hypertensor's own runtime; CHORALE_HYPERTENSOR_SPEC names no raw chain spec\n",
  )
}

async function overWebSocket(chainSpec: string | undefined): Promise<LedgerChain> {
  const devnet = await startDevnet({
    mode: 'instant',
    port: 0,
    logger: silentLogger,
    ...(chainSpec !== undefined && { chainSpec }),
  })
  const ledger = await connectLedger(devnet.url)
  return {
    ledger,
    makeBlocks: async (count) => void devnet.node.build(count),
    close: async () => {
      await ledger.close()
      await devnet.close()
    },
  }
}
