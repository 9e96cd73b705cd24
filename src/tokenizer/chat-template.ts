import { Environment, Interpreter, parse, tokenize } from '@huggingface/jinja'
import { ChoraleError, errorMessage } from '../errors.ts'
import type { ChatMessage } from './tokenizer.ts'

/** Real templates have up to 30 KiB. */
const MAX_SOURCE = 256 * 1024
/**
 * Work of one rendering: expressions evaluated, and 1/64 for each character they yield. A conversation of a thousand
 * messages takes about 10^5; a template that loops or doubles strings for ever ends here within a second or two.
 */
const MAX_WORK = 1_000_000
/** Expressions inside expressions, and macros that call themselves. */
const MAX_DEPTH = 1000
/** Longest text a template may build, in characters. */
const MAX_TEXT = 16 * 1024 * 1024
/** `range` in templates counts messages and digits. */
const MAX_RANGE = 100_000

/** A model's chat template, parsed. */
export interface ChatTemplate {
  readonly source: string
  /** String constants of the source: all that the template can look for in a message. */
  readonly literals: readonly string[]
  /** @throws `bad_request` when the template refuses the messages, `bad_file` or `not_supported` when it can't be run. */
  render(messages: readonly ChatMessage[], options: RenderOptions): string
}

export interface RenderOptions {
  readonly addGenerationPrompt: boolean
  readonly bosToken: string
  readonly eosToken: string
}

class Refusal extends Error {}
class Exceeded extends Error {}

/** @throws `bad_file` when the source is no Jinja or too long. */
export function parseChatTemplate(source: string): ChatTemplate {
  if (source.length > MAX_SOURCE) {
    throw new ChoraleError(
      'bad_file',
      `the chat template has ${source.length} characters, at most ${MAX_SOURCE} are read`,
    )
  }
  const { program, literals } = parseSource(source)
  return {
    source,
    literals,
    render(messages, options) {
      const environment = new Environment()
      for (const [name, value] of Object.entries(globals(messages, options))) environment.set(name, value)
      try {
        const value: unknown = new BoundedInterpreter(environment).run(program).value
        return typeof value === 'string' ? value : ''
      } catch (error) {
        if (error instanceof Refusal) {
          throw new ChoraleError(
            'bad_request',
            `the model's chat template refuses the messages: ${error.message}`,
            {
              cause: error,
              field: 'messages',
            },
          )
        }
        if (error instanceof Exceeded || error instanceof RangeError) {
          throw new ChoraleError('bad_file', `the chat template ${error.message}: it was stopped`, {
            cause: error,
          })
        }
        throw new ChoraleError(
          'not_supported',
          `the chat template can't be run: ${shorten(errorMessage(error))}`,
          {
            cause: error,
          },
        )
      }
    },
  }
}

function parseSource(source: string) {
  try {
    const tokens = tokenize(source, { lstrip_blocks: true, trim_blocks: true })
    const literals = new Set<string>()
    for (const token of tokens) if (token.type === 'StringLiteral') literals.add(token.value)
    return { program: parse(tokens), literals: [...literals] }
  } catch (error) {
    throw new ChoraleError(
      'bad_file',
      `the chat template is no valid Jinja: ${shorten(errorMessage(error))}`,
      {
        cause: error,
      },
    )
  }
}

function globals(messages: readonly ChatMessage[], options: RenderOptions): Record<string, unknown> {
  return {
    false: false,
    true: true,
    none: null,
    False: false,
    True: true,
    None: null,
    raise_exception: (message: unknown) => {
      throw new Refusal(shorten(String(message)))
    },
    range: boundedRange,
    strftime_now: (format: unknown) => strftime(new Date(), String(format)),
    messages: messages.map(({ role, content }) => ({ role, content })),
    add_generation_prompt: options.addGenerationPrompt,
    bos_token: options.bosToken,
    eos_token: options.eosToken,
  }
}

/** What is used of the library's interpreter, whose own types don't resolve under this module resolution. */
interface Evaluator {
  run(program: unknown): { readonly value: unknown }
  evaluate(node: unknown, environment: unknown): { readonly value: unknown }
}

const LibraryInterpreter = Interpreter as unknown as new (environment: unknown) => Evaluator

/** Stops a template that works too long; every expression passes through `evaluate`. */
class BoundedInterpreter extends LibraryInterpreter {
  private work = 0
  private depth = 0

  override evaluate(node: unknown, environment: unknown): { readonly value: unknown } {
    this.charge(1)
    if (++this.depth > MAX_DEPTH) throw new Exceeded(`nests deeper than ${MAX_DEPTH} levels`)
    let result: { readonly value: unknown }
    try {
      result = super.evaluate(node, environment)
    } finally {
      // `break` and `continue` leave by throwing.
      this.depth--
    }
    const { value } = result
    if (typeof value === 'string') {
      if (value.length > MAX_TEXT) {
        throw new Exceeded(`built a text of ${value.length} characters, limit ${MAX_TEXT}`)
      }
      this.charge(value.length / 64)
    } else if (Array.isArray(value)) this.charge(value.length / 16)
    return result
  }

  private charge(units: number): void {
    this.work += units
    if (this.work > MAX_WORK) throw new Exceeded(`did not end within ${MAX_WORK} steps`)
  }
}

function boundedRange(first: unknown, second?: unknown, third?: unknown): number[] {
  const [start, stop, step] = second === undefined ? [0, first, 1] : [first, second, third ?? 1]
  if (!Number.isInteger(start) || !Number.isInteger(stop) || !Number.isInteger(step) || step === 0) {
    throw new Error('range() takes integers and a step other than 0')
  }
  const [from, to, by] = [start as number, stop as number, step as number]
  const count = Math.max(0, Math.ceil((to - from) / by))
  if (count > MAX_RANGE) throw new Exceeded(`asked for a range of ${count} numbers, limit ${MAX_RANGE}`)
  return Array.from({ length: count }, (_, index) => from + index * by)
}

const MONTHS = 'January February March April May June July August September October November December'.split(
  ' ',
)
const DAYS = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split(' ')

/** Python's strftime for what templates use (today's date), English names whatever the locale. */
function strftime(date: Date, format: string): string {
  const two = (value: number) => String(value).padStart(2, '0')
  const month = MONTHS[date.getMonth()] as string
  const day = DAYS[date.getDay()] as string
  const fields: Record<string, string> = {
    Y: String(date.getFullYear()),
    m: two(date.getMonth() + 1),
    d: two(date.getDate()),
    B: month,
    b: month.slice(0, 3),
    A: day,
    a: day.slice(0, 3),
    H: two(date.getHours()),
    M: two(date.getMinutes()),
    S: two(date.getSeconds()),
    '%': '%',
  }
  return format.replace(/%(.)/g, (whole, letter: string) => fields[letter] ?? whole)
}

function shorten(text: string): string {
  return text.length > 300 ? `${text.slice(0, 300)}…` : text
}
