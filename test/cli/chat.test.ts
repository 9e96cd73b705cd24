import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { runChat, type ChatOptions } from '../../node/cli/chat/repl.ts'
import { applySetting, defaultSettings } from '../../node/cli/chat/settings.ts'
import { ChoraleError } from '../../src/errors.ts'
import { BOS, EOS, fakeLanguageModel, type FakeLanguageModel } from '../api/fake-language-model.ts'

let folder = ''
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'chorale-chat-'))
})
afterEach(async () => rm(folder, { recursive: true }))

class Screen extends PassThrough {
  readonly isTTY: boolean
  text = ''
  constructor(isTTY: boolean) {
    super()
    this.isTTY = isTTY
    this.on('data', (chunk: Buffer) => {
      this.text += chunk.toString()
    })
  }
}

async function until(condition: () => boolean, what: () => string): Promise<void> {
  const deadline = Date.now() + 5000
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`never happened: ${what()}`)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}

/** Whether the last thing readline drew is the empty prompt. */
const atPrompt = (text: string) => text.endsWith('>>> \u001B[22m\u001B[5G')

/** A chat on a pretended terminal. */
function terminal(languageModel: FakeLanguageModel, options: Partial<ChatOptions> = {}) {
  const input = new Screen(true)
  const output = new Screen(true)
  const errors = new Screen(true)
  const ended = runChat({ languageModel, input, output, errors, folder, ...options })
  return {
    input,
    output,
    errors,
    ended,
    /** Types a line and waits for the prompt after its answer. */
    async say(line: string): Promise<string> {
      await until(
        () => atPrompt(output.text),
        () => output.text,
      )
      const before = output.text.length
      const notes = errors.text.length
      input.write(`${line}\r`)
      await until(
        () => atPrompt(output.text.slice(before)) && languageModel.sessions() === 0,
        () => JSON.stringify([output.text.slice(before), errors.text.slice(notes)]),
      )
      return output.text.slice(before) + errors.text.slice(notes)
    },
    async see(text: string): Promise<void> {
      await until(
        () => (output.text + errors.text).includes(text),
        () => `${text} in ${JSON.stringify(output.text + errors.text)}`,
      )
    },
  }
}

const prompts = (model: FakeLanguageModel) =>
  model.requests.map(({ promptIds }) => model.tokenizer.decode(promptIds))

describe('runChat on a terminal', () => {
  it('streams answers and remembers the conversation; Ctrl-D leaves', async () => {
    const model = fakeLanguageModel({ answer: (prompt) => `<${prompt.split('\n').length}> wörld 🦊` })
    const chat = terminal(model)
    expect(await chat.say('hi')).toContain('<4> wörld 🦊')
    expect(await chat.say('again')).toContain('<8> wörld 🦊')
    expect(prompts(model)[1]).toBe('<user>\nhi\n<assistant>\n<4> wörld 🦊\n<user>\nagain\n<assistant>\n')
    chat.input.write('\u0004')
    expect(await chat.ended).toBe(0)
    expect(model.closed).toBe(false)
  })

  it('Ctrl-C stops the answer and frees the session, what was said stays; twice leaves', async () => {
    const model = fakeLanguageModel({ answer: () => 'word '.repeat(1000), tokenMs: 2 })
    const chat = terminal(model)
    await chat.see('>>> ')
    chat.input.write('go\r')
    await chat.see('word word')
    chat.input.write('typed meanwhile')
    chat.input.write('\u0003')
    await chat.see('stopped')
    expect(model.sessions()).toBe(0)
    expect(chat.output.text).not.toContain('typed')
    chat.input.write('\u0003')
    expect(await chat.ended).toBe(0)
  })

  it('Ctrl-C twice leaves at once though the model does not listen', async () => {
    const model = fakeLanguageModel()
    let free = () => undefined as void
    const stuck = new Promise<void>((resolve) => {
      free = resolve
    })
    // oxlint-disable-next-line require-yield -- it never says a word
    model.generate = async function* () {
      await stuck
    }
    const chat = terminal(model)
    await chat.see('>>> ')
    chat.input.write('go\r')
    await chat.see('go')
    chat.input.write('\u0003\u0003')
    expect(await chat.ended).toBe(0)
    free()
  })

  it('at the prompt one Ctrl-C says how to leave, the next leaves, a line between starts over', async () => {
    const model = fakeLanguageModel()
    const chat = terminal(model)
    await chat.see('>>> ')
    chat.input.write('half a li\u0003')
    await chat.see('Ctrl-C again')
    await chat.say('x')
    expect(prompts(model)[0]).toBe('<user>\nx\n<assistant>\n')
    chat.input.write('\u0003')
    await until(
      () => chat.errors.text.split('Ctrl-C again').length === 3,
      () => chat.errors.text,
    )
    chat.input.write('\u0003')
    expect(await chat.ended).toBe(0)
  })

  it('"""…""" is one message', async () => {
    const model = fakeLanguageModel()
    const chat = terminal(model)
    await chat.see('>>> ')
    chat.input.write('"""one\rtwo\r')
    await chat.see('... ')
    chat.input.write('three"""\r')
    await until(
      () => model.requests.length === 1 && atPrompt(chat.output.text),
      () => chat.output.text,
    )
    expect(prompts(model)).toEqual(['<user>\none\ntwo\nthree\n<assistant>\n'])
    await chat.say('"""all here"""')
    expect(prompts(model)[1]).toContain('<user>\nall here\n')
    chat.input.write('/bye\r')
    expect(await chat.ended).toBe(0)
  })

  it('commands: /set /show /clear /model /route /? and unknown ones', async () => {
    const model = fakeLanguageModel({ generationDefaults: { topP: 0.5 } })
    const chat = terminal(model)
    expect(await chat.say('/route')).toContain('no answer yet')
    await chat.say('/set temperature 0.3')
    await chat.say('/set stop "\\n"')
    await chat.say('/set seed 18446744073709551615')
    const shown = await chat.say('/show')
    expect(shown).toMatch(/temperature +0\.3/)
    expect(shown).toMatch(/top-p +0\.5/)
    expect(shown).toMatch(/stop +"\\n"/)
    expect(await chat.say('/set temperature hot')).toContain('it must be a number from 0 to 100')
    expect(await chat.say('/set colour red')).toContain('there is no setting "colour"')
    expect(await chat.say('/dance')).toContain('there is no /dance')
    expect(await chat.say('/?')).toContain('/save NAME')
    expect(await chat.say('/model')).toContain('tests/fake@0123456789ab')
    await chat.say('hi')
    expect(model.requests[0]).toMatchObject({
      stop: ['\n'],
      sampling: { temperature: 0.3, topP: 0.5, seed: 18446744073709551615n },
    })
    expect(await chat.say('/route')).toContain('blocks 3:8  onnx  peer-b')
    await chat.say('/clear')
    await chat.say('/set system Be kind.')
    await chat.say('new')
    expect(prompts(model)[1]).toBe('<system>\nBe kind.\n<user>\nnew\n<assistant>\n')
    chat.input.write('/bye\r')
    expect(await chat.ended).toBe(0)
  })

  it('/save and /load keep a conversation, 0600; a file that is none is refused', async () => {
    const model = fakeLanguageModel({ answer: () => 'ok' })
    const chat = terminal(model)
    await chat.say('one')
    const saved = await chat.say('/save my-chat')
    const path = join(folder, 'chats', 'my-chat.json')
    expect(saved).toContain(path)
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    await chat.say('/clear')
    expect(await chat.say('/load my-chat')).toContain('2 messages loaded')
    await chat.say('two')
    expect(prompts(model)[1]).toBe('<user>\none\n<assistant>\nok\n<user>\ntwo\n<assistant>\n')
    await writeFile(path, '{"model":"x","system":null,"messages":[{"role":"tool","content":""}]}')
    expect(await chat.say('/load my-chat')).toContain('messages.0.role')
    expect(await chat.say('/load nothing')).toContain('there is no')
    expect(await chat.say('/save ..')).toContain('is no name')
    chat.input.end('\u0004')
    await chat.ended
  })

  it('keeps typed lines in a private history and offers them next time', async () => {
    const model = fakeLanguageModel()
    const chat = terminal(model)
    await chat.say('first line')
    chat.input.write('\u0004')
    await chat.ended
    const path = join(folder, 'chat-history')
    expect(await readFile(path, 'utf8')).toBe('first line\n')
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    const next = terminal(model)
    await next.see('>>> ')
    next.input.write('\u001B[A')
    await next.see('first line')
    next.input.write('\r')
    await until(
      () => model.requests.length === 2,
      () => 'the line from history was sent',
    )
    await until(
      () => atPrompt(next.output.text),
      () => next.output.text,
    )
    next.input.write('/bye\r')
    expect(await next.ended).toBe(0)
  })

  it('tells failovers in words, statistics with verbose, and errors without leaving', async () => {
    const settings = defaultSettings()
    applySetting(settings, 'verbose', '')
    const model = fakeLanguageModel({ failoverAt: 3 })
    const chat = terminal(model, { settings })
    const shown = await chat.say('x')
    expect(shown).toContain('a server left (blocks 3–6), continuing on another after 0.4 s')
    expect(shown).toMatch(
      /first token 0\.012 s · prompt 22 tokens at 2200 tok\/s · answer \d+ tokens at \d+ tok\/s/,
    )
    expect(shown).toContain('1 failover')
    expect(shown).toContain('0:3 peer-a (reference), 3:8 peer-b (onnx)')
    chat.input.write('\u0004')
    await chat.ended
    const broken = terminal(
      fakeLanguageModel({ failure: new ChoraleError('no_chain', 'blocks 3:6 have no server') }),
    )
    expect(await broken.say('x')).toContain('blocks 3:6 have no server')
    expect(await broken.say('/?')).toContain('/bye')
    broken.input.write('\u0004')
    await broken.ended
  })

  it('forgets the oldest turns when the context is full, and says when one message is too long', async () => {
    const model = fakeLanguageModel({ contextLength: 200, answer: () => 'x'.repeat(30) })
    const chat = terminal(model)
    await chat.say(`a${'1'.repeat(20)}`)
    await chat.say(`b${'2'.repeat(20)}`)
    expect(await chat.say(`c${'3'.repeat(20)}`)).toContain('the oldest 2 messages no longer fit')
    expect(prompts(model)[2]).toMatch(/^<user>\nb2+\n/)
    for (const { promptIds, maxTokens } of model.requests) {
      expect(promptIds.length + 50, `${maxTokens}`).toBeLessThanOrEqual(200)
    }
    expect(await chat.say('y'.repeat(300))).toContain('context holds 200')
    chat.input.write('\u0004')
    await chat.ended
  })

  it('does not let an answer steer the terminal', async () => {
    const chat = terminal(fakeLanguageModel({ answer: () => 'a\u001B[2Jb\u0007c\n\tok' }))
    const shown = await chat.say('x')
    expect(shown).toContain('a\uFFFD[2Jb\uFFFDc\n\tok')
    expect(shown).not.toContain('\u0007')
    chat.input.write('\u0004')
    await chat.ended
  })

  it('ends with its signal', async () => {
    const controller = new AbortController()
    const model = fakeLanguageModel({ answer: () => 'x'.repeat(1000), tokenMs: 5 })
    const chat = terminal(model, { signal: controller.signal })
    await chat.see('>>> ')
    chat.input.write('go\r')
    await until(
      () => model.sessions() === 1,
      () => 'the answer started',
    )
    controller.abort()
    expect(await chat.ended).toBe(0)
    await until(
      () => model.sessions() === 0,
      () => 'the session was freed',
    )
  })
})

describe('runChat with --once or a pipe', () => {
  async function once(model: FakeLanguageModel, options: Partial<ChatOptions>, piped?: string) {
    const input = new PassThrough()
    if (piped !== undefined) input.end(piped)
    const output = new Screen(false)
    const errors = new Screen(false)
    const code = await runChat({ languageModel: model, input, output, errors, folder, ...options })
    return { code, out: output.text, err: errors.text }
  }

  it('prints the answer and nothing else on stdout', async () => {
    const settings = defaultSettings()
    applySetting(settings, 'greedy', '')
    const model = fakeLanguageModel({ failoverAt: 1 })
    const { code, out, err } = await once(model, { once: 'wörld', settings })
    expect(code).toBe(0)
    expect(out).toBe('Hello, wörld\n')
    expect(err).toBe('a server left (blocks 3–6), continuing on another after 0.4 s\n')
    expect((await once(model, { settings }, 'pipe\n')).out).toBe('Hello, pipe\n')
  })

  it('--json prints one document with ids, logprobs, usage and route', async () => {
    const settings = defaultSettings()
    applySetting(settings, 'greedy', '')
    applySetting(settings, 'seed', '7')
    const model = fakeLanguageModel({ answer: () => 'é' })
    const { out, err } = await once(model, { once: 'x', json: true, settings })
    expect(err).toBe('')
    expect(JSON.parse(out)).toEqual({
      model: 'tests/fake@0123456789ab',
      promptIds: model.requests[0]!.promptIds,
      ids: [0xc3, 0xa9, EOS],
      text: 'é',
      logprobs: [-0.5, -0.5, -0.5],
      usage: { promptTokens: 22, completionTokens: 3 },
      route: [
        { peer: 'peer-a', start: 0, end: 3, engine: 'reference' },
        { peer: 'peer-b', start: 3, end: 8, engine: 'onnx' },
      ],
      finishReason: 'stop',
      failovers: 0,
      timings: { prefillMs: 10, decodeMs: 20, firstTokenMs: 12 },
      seed: '7',
    })
    expect(model.requests[0]!.sampling).toMatchObject({ temperature: 0, topLogprobs: 0, seed: 7 })
  })

  it('continues raw text where there is no chat template, from BOS when it is empty, and says so', async () => {
    const model = fakeLanguageModel({ chatTemplate: false, answer: () => 'ok' })
    const first = await once(model, { once: 'Once' })
    expect(model.requests[0]!.promptIds).toEqual([BOS, 79, 110, 99, 101])
    expect(first.err).toContain('tests/fake has no chat template')
    await once(model, { once: '' })
    expect(model.requests[1]!.promptIds).toEqual([BOS])
    const asked = fakeLanguageModel({ answer: () => 'ok' })
    expect((await once(asked, { once: 'Once', raw: true })).err).toBe('')
    expect(asked.requests[0]!.promptIds).toEqual([BOS, 79, 110, 99, 101])
  })

  it('passes errors on, and 130 when it was stopped', async () => {
    await expect(
      once(fakeLanguageModel({ contextLength: 20 }), { once: 'x'.repeat(50) }),
    ).rejects.toMatchObject({
      code: 'context_length',
    })
    const failure = new ChoraleError('no_chain', 'nobody')
    await expect(once(fakeLanguageModel({ failure }), { once: 'x' })).rejects.toBe(failure)
    const controller = new AbortController()
    const model = fakeLanguageModel({ answer: () => 'x'.repeat(1000), tokenMs: 5 })
    const running = once(model, { once: 'x', signal: controller.signal })
    await until(
      () => model.sessions() === 1,
      () => 'it started',
    )
    controller.abort()
    expect((await running).code).toBe(130)
  })

  it('wants a prompt for --json on a terminal', async () => {
    const input = new Screen(true)
    await expect(runChat({ languageModel: fakeLanguageModel(), input, json: true })).rejects.toMatchObject({
      code: 'bad_config',
    })
  })
})
