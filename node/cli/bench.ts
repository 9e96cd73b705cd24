import { Command } from 'commander'
import { batchBenchCommand } from './bench/batch.ts'
import { chainBenchCommand } from './bench/chain.ts'
import { gateBenchCommand } from './bench/gate.ts'
import { hopsBenchCommand } from './bench/hops.ts'
import { handoverBenchCommand } from './bench/handover.ts'
import { gpuBenchCommand } from './bench/gpu.ts'
import { localBenchCommand } from './bench/local.ts'
import { wanBenchCommand } from './bench/wan.ts'
import { webBenchCommand } from './bench/web.ts'

/** `chorale bench`: measurements as commands; nothing here is a test. */
export function benchCommand(): Command {
  return new Command('bench')
    .description('measure speed')
    .addCommand(localBenchCommand())
    .addCommand(chainBenchCommand())
    .addCommand(batchBenchCommand())
    .addCommand(gpuBenchCommand())
    .addCommand(hopsBenchCommand())
    .addCommand(handoverBenchCommand())
    .addCommand(gateBenchCommand())
    .addCommand(wanBenchCommand())
    .addCommand(webBenchCommand())
}
