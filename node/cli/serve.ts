import { Command } from 'commander'
import { ENGINE_CHOICES } from '../../src/engine/select.ts'
import { addSubnetFlags } from '../join-subnet.ts'
import { BUNDLED_MODEL } from '../model-ports.ts'
import { DEFAULT_KV_TOKENS } from './serve/held-models.ts'
import { collect } from './serve/per-model.ts'
import { runServe } from './serve/run-serve.ts'

/** All addresses of the machine, a free port for each: TCP for servers, WebSocket for browsers. */
export const DEFAULT_LISTEN: readonly string[] = ['/ip4/0.0.0.0/tcp/0', '/ip4/0.0.0.0/tcp/0/ws']

/** `chorale serve`: runs a span of the blocks of a model, or of several, for others. */
export function serveCommand(): Command {
  const command = new Command('serve')
    .description('serve a span of blocks of a model, or of several')
    .argument(
      '[models...]',
      `folders, .gguf files or hub names (default: ${BUNDLED_MODEL}, the bundled model)`,
    )
    .option(
      '--blocks <[model=]start:end>',
      'blocks to serve, end exclusive; auto = those that need a server most, moving when others need it more (default: auto)',
      collect,
    )
    .option('--dwell <seconds>', 'with auto: stay in a span at least this long before moving (default: 600)')
    .option(
      '--max-memory <amount>',
      'memory to use at most, e.g. 2GB: decides how many blocks auto takes, of all models together',
    )
    .option('--bootstrap <addrs...>', 'peers to join the network through (none: start a new network)')
    .option('--listen <addrs...>', 'multiaddrs to listen on', [...DEFAULT_LISTEN])
    .option('--announce <addrs...>', 'multiaddrs to tell others instead, behind a proxy or a forwarded port')
    .option('--identity <file>', "keep the peer's key in this file (default: a new peer each time)")
    .option('--engine <name>', ENGINE_CHOICES, 'auto')
    .option('--threads <n>', 'CPU threads of the engine')
    .option(
      '--kv-tokens <[model=]n>',
      `tokens of KV cache for all sessions together, split between models (default: ${DEFAULT_KV_TOKENS})`,
      collect,
    )
    .option('--kv <format>', 'how engine wgsl keeps keys and values: f32, or f16 in half the memory', 'f32')
    .option('--max-sessions <n>', 'sessions at once, of all models', '64')
    .option('--no-prefix-cache', 'compute every prompt anew: nobody can time whether others sent it before')
    .option('--drain <seconds>', 'when asked to leave, let sessions finish this long', '30')
  return addSubnetFlags(command, 'admit only peers with stake on this ledger')
    .option(
      '--hotkey <file>',
      "do the duties of this server's node: key file of its hotkey (chorale key), or 64 hex digits; mode 600",
    )
    .option(
      '--duty-files <folder>',
      "where a node's reports and fault proofs lie (default: the state folder)",
    )
    .option(
      '--policy <file>',
      "with --hotkey: wasm of a program that scores in the formula's place where the ledger names its hash; other nodes get it from this one",
    )
    .option('--sponsor', 'give passes to clients without stake, at the expense of this server')
    .option('--receipts <folder>', 'keep signed receipts of sessions here (chorale verify checks them)')
    .option(
      '--metrics <[host:]port>',
      'show metrics at http://127.0.0.1:PORT/metrics, in Prometheus text format (default: nowhere)',
    )
    .option('--revision <[model=]name>', 'branch, tag or commit of a hub model', collect)
    .option(
      '--weights <[model=]where>',
      'files: those that MODEL names; peers: from servers that share them, MODEL being a name or id that the network knows (default: files)',
      collect,
    )
    .option(
      '--manifest <[model=]sha256>',
      'with --weights peers: take only the weights of this manifest (default: that of most servers)',
      collect,
    )
    .option(
      '--share <amount>',
      'give weights to others, at most so many bytes a second, e.g. 5MB (default: not; 8MB with --weights peers)',
    )
    .option(
      '--control',
      'take commands on standard input, one JSON object a line: {"move": "4:8", "overlap": true, "model": "…"}',
    )
    .option('--json', 'print one JSON line per event')
    .option('-v, --verbose', 'log what happens')
    .addHelpText(
      'after',
      `
Ctrl-C lets running sessions finish, then leaves; a second one leaves at once. A fetch from peers that was cut
goes on where it stopped.

Examples:
  chorale serve --blocks 0:4
  chorale serve HuggingFaceTB/SmolLM2-135M-Instruct --blocks auto --max-memory 2GB \\
    --bootstrap /ip4/192.0.2.7/tcp/4001/p2p/12D3…
  chorale serve SmolLM2-135M-Instruct --weights peers --blocks 0:8 --bootstrap /ip4/192.0.2.7/tcp/4001/p2p/12D3…
  chorale serve storyteller models/other --blocks other=4:8 --max-memory 4GB   # two models, one peer

With several models duties of a --hotkey are done for the first.`,
    )
    .action(runServe)
}
