import { Command } from 'commander'
import { parseEngineName, ENGINE_CHOICES } from '../../src/engine/select.ts'
import { ChoraleError } from '../../src/errors.ts'
import { catchInterrupt } from './chat/interrupt.ts'
import { type ChaosReport, runChaos } from './chaos/run-chaos.ts'

interface ChaosCommandOptions {
  kills: string
  model?: string
  engine: string
  seed: string
  tokens: string
  browser?: boolean
  rebalance?: boolean
  json?: boolean
}

/** `chorale chaos`: answers must not change when their servers die. */
export function chaosCommand(): Command {
  return new Command('chaos')
    .description('kill, stall and cut servers during answers and compare with undisturbed ones')
    .option('--kills <n>', 'answers, each with one fault', '50')
    .option('--model <model>', 'folder, .gguf file or hub name (default: the bundled model)')
    .option('--engine <name>', ENGINE_CHOICES, 'auto')
    .option('--seed <n>', 'draws faults, servers and moments', '1')
    .option('--tokens <n>', 'tokens of each answer', '40')
    .option('--browser', 'tabs of a headless Chromium serve the blocks in the middle')
    .option('--rebalance', 'servers are also told to serve other blocks')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Starts an offline swarm with two servers for each of three spans, asks, and during every answer does one of
  kill           kill -9 of a server the answer runs on (another process takes its place afterwards)
  stall          SIGSTOP of one
  cut            resets the connection to one
  half-open      its link swallows everything and stays open
  slow           its link is 40 ms late, each way
  corrupt        one bit of what it sends is flipped on the way
  move           it is told to serve other blocks (--rebalance)
  tab-close      a tab that serves is closed (--browser)
  relay-restart  the peer that relays for tabs is killed and comes back (--browser)
Exits 1 unless every answer equals the undisturbed one.

Example:
  chorale chaos --kills 50 --json
  chorale chaos --kills 300 --browser --rebalance --json`,
    )
    .action(runChaosCommand)
}

async function runChaosCommand(options: ChaosCommandOptions): Promise<void> {
  const interrupt = catchInterrupt()
  try {
    const report = await runChaos({
      answers: wholeNumber(options.kills, 'kills', 1),
      tokens: wholeNumber(options.tokens, 'tokens', 4),
      seed: wholeNumber(options.seed, 'seed', 0),
      engine: parseEngineName(options.engine),
      browser: options.browser ?? false,
      rebalance: options.rebalance ?? false,
      signal: interrupt.signal,
      onProgress: (line) => process.stderr.write(`${line}\n`),
      ...(options.model !== undefined && { reference: options.model }),
    })
    process.stdout.write(options.json === true ? `${JSON.stringify(report, undefined, 1)}\n` : words(report))
    if (report.failed > 0 || report.equal !== report.answers) process.exitCode = 1
  } finally {
    interrupt.release()
  }
}

function words(report: ChaosReport): string {
  const { answers, faults, equal, failed, recoveryMs } = report
  return (
    `${equal} of ${answers} answers equal to the undisturbed ones, ${failed} failed\n` +
    `faults: ${Object.entries(faults)
      .map(([kind, count]) => `${count} ${kind}`)
      .join(', ')}\n` +
    `recovery: median ${recoveryMs.p50} ms, 95 % within ${recoveryMs.p95} ms, at most ${recoveryMs.max} ms\n`
  )
}

function wholeNumber(text: string, name: string, least: number): number {
  const value = Number(text)
  if (Number.isSafeInteger(value) && value >= least) return value
  throw new ChoraleError(
    'bad_config',
    `--${name} ${JSON.stringify(text)} is not a whole number from ${least}`,
    {
      field: name,
    },
  )
}
