import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { ChoraleError, errorMessage } from '../../../src/errors.ts'

/**
 * A Chromium that is measured, not watched. Test drivers have it report every WebSocket frame, in base64 and through
 * three processes, and look for what they wait for in every frame that is painted: on two cores that halves what a tab
 * can do. Here a page only runs functions that it is given.
 */
export interface BareChromium {
  /** Opens a page in a fresh profile. */
  open(url: string): Promise<BareTab>
  close(): Promise<void>
}

export interface BareTab {
  /**
   * Runs a function in the page and gives what it returned, waiting for its promise. The function takes nothing from
   * around it, and argument and answer travel as JSON.
   * @throws `internal` with what the page said.
   */
  run<In, Out>(work: (argument: In) => Out | Promise<Out>, argument: In): Promise<Out>
  close(): Promise<void>
}

const FLAGS = [
  '--headless',
  '--remote-debugging-pipe',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--hide-scrollbars',
  '--mute-audio',
  // As the tests of the pages: they run as root in containers, and the page is our own.
  '--no-sandbox',
  'about:blank',
]

/** Starts it with a profile of its own. @throws `internal` when it does not start. */
export async function launchBareChromium(executablePath: string): Promise<BareChromium> {
  const profile = await mkdtemp(join(tmpdir(), 'chorale-chromium-'))
  const child = spawn(executablePath, [...FLAGS, `--user-data-dir=${profile}`], {
    stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
  })
  const gone = new Promise<void>((resolve) => {
    child.once('error', () => resolve())
    child.once('close', () => resolve())
  })
  const ask = devtools(child.stdio[3] as Writable, child.stdio[4] as Readable, gone)
  const close = async (): Promise<void> => {
    await ask('Browser.close').catch(() => child.kill('SIGKILL'))
    await gone
    await rm(profile, { recursive: true, force: true, maxRetries: 5 })
  }
  try {
    await ask('Browser.getVersion')
  } catch (error) {
    await close()
    throw error
  }
  return {
    async open(url) {
      const { browserContextId } = await ask('Target.createBrowserContext')
      const { targetId } = await ask('Target.createTarget', { url, browserContextId })
      const { sessionId } = await ask('Target.attachToTarget', { targetId, flatten: true })
      return {
        run: async <In, Out>(work: (argument: In) => Out | Promise<Out>, argument: In) =>
          await evaluate<Out>(
            (params) => ask('Runtime.evaluate', params, sessionId),
            `(${work.toString()})(${JSON.stringify(argument)})`,
          ),
        close: async () => {
          await ask('Target.disposeBrowserContext', { browserContextId })
        },
      }
    },
    close,
  }
}

/** What the protocol answers, as far as it is read here. */
interface Answer {
  readonly browserContextId?: string
  readonly targetId?: string
  readonly sessionId?: string
  readonly result?: { readonly value?: unknown }
  readonly exceptionDetails?: { readonly exception?: { readonly description?: string } }
}
type Ask = (method: string, params?: object, sessionId?: string) => Promise<Answer>

async function evaluate<Out>(ask: (params: object) => Promise<Answer>, expression: string): Promise<Out> {
  const { result, exceptionDetails } = await ask({ expression, awaitPromise: true, returnByValue: true })
  if (exceptionDetails) {
    throw new ChoraleError('internal', `the page: ${exceptionDetails.exception?.description ?? 'it failed'}`)
  }
  return result?.value as Out
}

/** The DevTools protocol over a pair of pipes: JSON, each message ended by a zero byte. */
function devtools(input: Writable, output: Readable, gone: Promise<void>): Ask {
  const waiting = new Map<number, PromiseWithResolvers<Answer>>()
  let calls = 0
  let read = ''
  output.setEncoding('utf8')
  output.on('data', (text: string) => {
    const messages = (read + text).split('\0')
    read = messages.pop() ?? ''
    for (const message of messages) receive(message)
  })
  // Writing to what has ended; `gone` tells.
  input.on('error', () => undefined)
  void gone.then(() => {
    for (const { reject } of waiting.values()) reject(new ChoraleError('internal', 'Chromium has ended'))
    return waiting.clear()
  })

  function receive(message: string): void {
    const { id, result, error } = JSON.parse(message) as {
      id?: number
      result?: Answer
      error?: { message: string }
    }
    if (id === undefined) return
    if (error) waiting.get(id)?.reject(new ChoraleError('internal', `Chromium: ${errorMessage(error)}`))
    else waiting.get(id)?.resolve(result ?? {})
    waiting.delete(id)
  }

  return async (method, params = {}, sessionId) => {
    const id = ++calls
    const answer = Promise.withResolvers<Answer>()
    waiting.set(id, answer)
    input.write(`${JSON.stringify({ id, method, params, ...(sessionId && { sessionId }) })}\0`)
    return await answer.promise
  }
}
