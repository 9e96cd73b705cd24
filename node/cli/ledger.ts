import { readFile } from 'node:fs/promises'
import { Command } from 'commander'
import { ChoraleError } from '../../src/errors.ts'
import { runConformance } from '../../src/ledger/conformance/conformance.ts'
import type { ConformanceStep } from '../../src/ledger/conformance/script.ts'
import type { LedgerSigner } from '../../src/ledger/ledger.ts'
import { devAccount } from '../../src/ledger/substrate/dev-accounts.ts'
import { keyFromMnemonic, keyFromSeed, signerOf } from '../../src/ledger/substrate/key-derivation.ts'
import { openBlockMaker } from '../../src/ledger/substrate/make-blocks.ts'
import { catchInterrupt } from './chat/interrupt.ts'
import { toJson } from './ledger/json.ts'
import { type LedgerFlags, ledgerUrl, openLedger, withLedgerOptions } from './ledger/options.ts'
import { createStyle, printable, write } from './terminal.ts'

interface ConformanceFlags extends LedgerFlags {
  mnemonicFile?: string
}

/** `chorale ledger`: what concerns the chain itself. */
export function ledgerCommand(): Command {
  const command = new Command('ledger').description('ask and check the ledger')
  command.addCommand(
    withLedgerOptions(new Command('info'))
      .description('show which chain a node follows, and its blocks')
      .addHelpText('after', '\nExample:\n  chorale ledger info --url ws://127.0.0.1:9944')
      .action(runInfo),
  )
  command.addCommand(
    withLedgerOptions(new Command('conformance'))
      .description("run a subnet's life cycle on a chain and compare events and balances with the rules")
      .option(
        '--mnemonic-file <file>',
        'words of the account that pays, about 1,700 tokens and the least delegate stake (default: Alith, the development account)',
      )
      .addHelpText(
        'after',
        '\nFor development chains: it registers a subnet, slashes a node and leaves both there. Exit code 1 when a step fails.\n' +
          '\nExamples:\n  chorale ledger conformance --url ws://127.0.0.1:9944\n  chorale ledger conformance --url ws://127.0.0.1:9944 --json',
      )
      .action(runConformanceVerb),
  )
  return command
}

async function runInfo(flags: LedgerFlags): Promise<void> {
  const ledger = await openLedger(flags)
  try {
    const { info } = ledger
    const head = await ledger.head()
    const text =
      flags.json === true
        ? toJson({ ...info, ...head })
        : `chain      ${printable(info.chain)}\ngenesis    ${info.genesisHash}\n` +
          `token      ${printable(info.tokenSymbol)}, ${info.tokenDecimals} decimals\n` +
          `accounts   ${info.accounts}\nblocks     every ${info.blockMs / 1000} s\n` +
          `epoch      ${info.epochBlocks === 0 ? 'this chain has no subnets' : `${info.epochBlocks} blocks`}\n` +
          `best       ${head.number} ${head.hash}\nfinal      ${head.finalizedNumber} ${head.finalizedHash}\n`
    await write(process.stdout, text)
  } finally {
    await ledger.close()
  }
}

async function runConformanceVerb(flags: ConformanceFlags): Promise<void> {
  const ledger = await openLedger(flags)
  const maker = await openBlockMaker(await ledgerUrl(flags))
  const interrupt = catchInterrupt()
  try {
    const ethereum = ledger.info.accounts === 'ethereum'
    const kind = ethereum ? 'ethereum' : 'sr25519'
    const random = (length: number): Uint8Array => crypto.getRandomValues(new Uint8Array(length))
    const funder =
      flags.mnemonicFile === undefined
        ? signerOf(devAccount(ethereum ? 'alith' : 'alice'))
        : await funderOf(flags.mnemonicFile, kind)
    const style = createStyle(process.stdout)
    const onStep = (step: ConformanceStep): void => {
      if (flags.json === true) return
      const mark = step.ok ? style.green('ok  ') : style.red('FAIL')
      process.stdout.write(`${mark}  ${step.name}  ${style.dim(step.events.join(' '))}\n`)
      if (!step.ok || flags.verbose === true) {
        for (const line of step.detail.split('; ')) process.stdout.write(`      ${printable(line)}\n`)
      }
    }
    const report = await runConformance(ledger, {
      funder,
      newAccount: () => signerOf(keyFromSeed(random(32), kind)),
      random,
      onStep,
      makeBlocks: maker?.make,
      signal: interrupt.signal,
    })
    if (flags.json === true) await write(process.stdout, toJson(report))
    else
      await write(
        process.stdout,
        `${report.ok ? 'all steps are as by the rules' : 'not as by the rules'}: ${printable(report.chain)}\n`,
      )
    if (!report.ok) process.exitCode = 1
  } finally {
    interrupt.release()
    maker?.close()
    await ledger.close()
  }
}

async function funderOf(path: string, kind: 'ethereum' | 'sr25519'): Promise<LedgerSigner> {
  const words = await readFile(path, 'utf8').catch((error: unknown) => {
    throw new ChoraleError('bad_config', `--mnemonic-file ${path} can't be read`, {
      cause: error,
      field: 'mnemonic-file',
    })
  })
  return signerOf(keyFromMnemonic(words, kind))
}
