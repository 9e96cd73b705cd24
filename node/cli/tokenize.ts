import { Command } from 'commander'
import { ChoraleError } from '../../src/errors.ts'
import { createTokenizer } from '../../src/tokenizer/hf-tokenizer.ts'
import type { Tokenizer } from '../../src/tokenizer/tokenizer.ts'
import { openModelArgument } from '../open-model-argument.ts'

/** Longest text read from stdin, in bytes: more than any context holds. */
const MAX_STDIN = 16 * 1024 * 1024

interface TokenizeOptions {
  text?: string
  chat?: boolean
  plain?: boolean
  json?: boolean
}

/** `chorale tokenize`: shows how a model's tokenizer cuts a text. */
export function tokenizeCommand(): Command {
  return new Command('tokenize')
    .description('show the token ids of a text')
    .argument('<model>', 'folder, .gguf file or hub name')
    .option('--text <text>', 'the text (default: what is piped in)')
    .option('--chat', "make the text a user's message and apply the model's chat template")
    .option('--plain', 'leave special tokens that the text spells as plain text, as chats do')
    .option('--json', 'print {"ids", "tokens", "decoded"}')
    .addHelpText('after', '\nExample:\n  chorale tokenize models/storyteller --text "A brave cat." --json')
    .action(runTokenize)
}

async function runTokenize(reference: string, options: TokenizeOptions): Promise<void> {
  const text = options.text ?? (await readPipedText())
  const model = await openModelArgument(reference)
  try {
    const files = await model.tokenizerFiles()
    if (files === undefined) {
      throw new ChoraleError('not_supported', `${model.name} holds no tokenizer (tokenizer.json is missing)`)
    }
    const tokenizer = createTokenizer(files, model.spec)
    const ids =
      options.chat === true
        ? tokenizer.encodeChat([{ role: 'user', content: text }])
        : tokenizer.encode(text, { parseSpecial: options.plain !== true })
    process.stdout.write(options.json === true ? describeJson(tokenizer, ids) : describe(tokenizer, ids))
  } finally {
    await model.close()
  }
}

function describeJson(tokenizer: Tokenizer, ids: readonly number[]): string {
  const tokens = ids.map((id) => tokenizer.token(id))
  return `${JSON.stringify({ ids, tokens, decoded: tokenizer.decode(ids, { special: true }) })}\n`
}

/** One line a token: id and entry. */
function describe(tokenizer: Tokenizer, ids: readonly number[]): string {
  const lines = ids.map((id) => `${String(id).padStart(7)}  ${JSON.stringify(tokenizer.token(id))}\n`)
  return `${lines.join('')}${ids.length} tokens\n`
}

/** @throws `bad_config` when nothing is piped in. */
async function readPipedText(): Promise<string> {
  if (process.stdin.isTTY) {
    throw new ChoraleError('bad_config', 'no text: give --text TEXT or pipe one in', { field: 'text' })
  }
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of process.stdin) {
    const bytes = Buffer.from(chunk as Uint8Array)
    size += bytes.length
    if (size > MAX_STDIN)
      throw new ChoraleError('limit', `more than ${MAX_STDIN} bytes piped in`, { field: 'text' })
    chunks.push(bytes)
  }
  return Buffer.concat(chunks).toString('utf8')
}
