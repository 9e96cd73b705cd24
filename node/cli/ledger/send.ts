import { ChoraleError } from '../../../src/errors.ts'
import { formatAmount } from '../../../src/ledger/amounts.ts'
import type { Ledger, LedgerCall, LedgerSigner, Submitted } from '../../../src/ledger/ledger.ts'
import { catchInterrupt } from '../chat/interrupt.ts'
import { askYes, createStyle, write } from '../terminal.ts'
import { toJson } from './json.ts'

/** A call as a person reads it before it is sent. */
export interface Summary {
  /** `Stake 100 TENSOR for node 3 of subnet storyteller (128001)`. */
  readonly title: string
  /** Leaves the account's free balance besides the fee, at most. */
  readonly amount?: bigint
  /** More lines: what follows, from when on something can be claimed. */
  readonly notes?: readonly string[]
}

/**
 * Shows what a call does, what it costs and who pays, asks, sends and tells what happened.
 * @throws `cancelled` when the answer is no, `ledger` as the chain refuses.
 */
export async function confirmAndSend(
  ledger: Ledger,
  signer: LedgerSigner,
  call: LedgerCall,
  summary: Summary,
  flags: { readonly json?: boolean; readonly yes?: boolean; readonly finalized?: boolean },
): Promise<Submitted> {
  const [fee, balance] = await Promise.all([ledger.fee(call, signer), ledger.balance(signer.address)])
  const cost = (summary.amount ?? 0n) + fee
  const { info } = ledger
  const style = createStyle(process.stderr)
  const lines = [
    style.bold(summary.title),
    `account  ${signer.address}  (has ${formatAmount(balance, info)})`,
    ...(summary.amount === undefined ? [] : [`amount   ${formatAmount(summary.amount, info)}`]),
    `fee      ${formatAmount(fee, info)} at most`,
    `chain    ${info.chain}`,
    ...(summary.notes ?? []).map((note) => style.dim(note)),
  ]
  if (flags.json !== true) process.stderr.write(`${lines.join('\n')}\n`)
  if (balance < cost) {
    throw new ChoraleError(
      'ledger',
      `${signer.address} has ${formatAmount(balance, info)} and needs ${formatAmount(cost, info)}: move ${formatAmount(cost - balance, info)} to it first`,
      { field: 'balance' },
    )
  }
  if (flags.yes !== true && !(await askYes('Send?'))) {
    throw process.stdin.isTTY
      ? new ChoraleError('cancelled', 'nothing was sent')
      : new ChoraleError('bad_config', 'nobody to ask: give --yes to send without asking', { field: 'yes' })
  }
  const interrupt = catchInterrupt()
  try {
    const done = await ledger.submit(call, signer, {
      until: flags.finalized === true ? 'finalized' : 'block',
      signal: interrupt.signal,
    })
    const text =
      flags.json === true
        ? toJson({ account: signer.address, call: `${call.pallet}.${call.call}`, fee, ...done })
        : `${style.green('done')} in block ${done.blockNumber} (${done.extrinsicHash})\n`
    await write(process.stdout, text)
    return done
  } finally {
    interrupt.release()
  }
}
