import { DEV_ACCOUNTS } from '../../../../src/ledger/devnet/dev-genesis.ts'
import { createNativeChain } from '../../../../src/ledger/devnet/native/native-chain.ts'
import { createNativeLedger } from '../../../../src/ledger/devnet/native/native-ledger.ts'
import { createNativeRuntime } from '../../../../src/ledger/devnet/native/runtime.ts'
import { ledgerContract } from '../../../contract/ledger-contract.ts'

ledgerContract('native chain in this process', async () => {
  const native = createNativeRuntime({
    endowed: Object.fromEntries(DEV_ACCOUNTS.map(({ address }) => [address, 10n ** 24n])),
    sudo: DEV_ACCOUNTS[0]?.address ?? '',
  })
  const chain = createNativeChain(native, 6000, 1_700_000_000_000)
  const ledger = createNativeLedger(chain)
  return {
    ledger,
    makeBlocks: async (count) => void chain.produce(count),
    close: () => ledger.close(),
  }
})
