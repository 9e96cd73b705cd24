import { Command } from 'commander'
import { createNodePlatform, stderrLogger } from '../platform.ts'
import { checkDisk, checkMemory, checkNetwork, checkRuntime, type Check } from './doctor/machine.ts'
import { checkEngine, checkGpu } from './doctor/compute.ts'

/** `chorale doctor`: says whether this machine can chat and serve, and what to do where it can't. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description('check this machine: engine, adapter, limits, memory, network, disk')
    .option('--json', 'print one JSON document')
    .action(async (options: { json?: boolean }) => {
      const platform = createNodePlatform(stderrLogger('error'))
      const engine = await checkEngine(platform)
      const checks: Check[] = [
        checkRuntime(),
        engine.check,
        await checkGpu(platform),
        checkMemory(),
        await checkNetwork(),
        await checkDisk(),
      ]
      const ok = checks.every((check) => check.ok)
      if (options.json === true) {
        process.stdout.write(`${JSON.stringify({ ok, engine: engine.choice, checks }, undefined, 1)}\n`)
      } else {
        for (const check of checks) {
          process.stdout.write(`${check.ok ? 'ok  ' : 'FAIL'} ${check.name.padEnd(8)} ${check.detail}\n`)
          if (check.fix !== null) process.stdout.write(`     ${' '.repeat(8)} fix: ${check.fix}\n`)
        }
      }
      if (!ok) process.exitCode = 1
    })
}
