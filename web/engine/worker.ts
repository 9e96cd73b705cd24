/// <reference lib="webworker" />
import type { Engine, EngineHead } from '../../src/engine/engine.ts'
import { ChoraleError, errorMessage } from '../../src/errors.ts'
import { createLogger } from '../../src/log.ts'
import { loadEmbedding } from '../../src/model/embedding.ts'
import type { Model } from '../../src/model/model.ts'
import { fitConversation, rawPrompt } from '../../src/session/conversation.ts'
import type { DraftModel } from '../../src/session/draft-model.ts'
import { createLanguageModel } from '../../src/session/generate.ts'
import type { LanguageModel } from '../../src/session/language-model.ts'
import { createTokenizer } from '../../src/tokenizer/hf-tokenizer.ts'
import { type ChosenEngine, tabEngines } from './choose-engine.ts'
import { type FetchedPart, fetchClientPart } from './fetch-part.ts'
import { gatherText } from './gather-text.ts'
import type { AnswerRequest, Command, DraftSource, Report } from './messages.ts'
import { toWire } from './messages.ts'
import { createWorkerPieces } from './piece-link.ts'
import { createWorkerRunner, type WorkerRunner } from './worker-runner.ts'

/** The worker: the client's half of a model. The blocks are reached through the page, which holds the network. */

const post = (report: Report, transfer: Transferable[] = []): void =>
  (self as unknown as DedicatedWorkerGlobalScope).postMessage(report, transfer)

const log = createLogger('warn', ({ scope, message }) => post({ type: 'log', text: `${scope}: ${message}` }))

const pieces = createWorkerPieces(post)

let runner: WorkerRunner | undefined
let languageModel: LanguageModel | undefined
const answers = new Map<number, AbortController>()

async function load(command: Extract<Command, { type: 'load' }>): Promise<void> {
  const part = await fetchClientPart(command.part, {
    url: command.url,
    key: command.key,
    first: command.first,
    pieces: pieces.fetch,
    onProgress: (loadedBytes, totalBytes, peers) =>
      post({ type: 'progress', loadedBytes, totalBytes, peers }),
  })
  const { model } = part
  const files = await model.tokenizerFiles()
  if (files === undefined) throw new ChoraleError('not_supported', `${model.name} holds no tokenizer`)
  const tokenizer = createTokenizer(files, model.spec)
  const embedding = await loadEmbedding(model)
  const { chosen, head } = await loadHead(part)
  const draft = command.draft && (await loadDraft(command.draft, command.key, model, chosen.engine))
  part.release()
  const { hiddenSize, blockCount } = model.spec
  runner = createWorkerRunner({ modelId: model.id, hiddenSize, blockCount }, post)
  languageModel = createLanguageModel({
    model,
    tokenizer,
    embedding,
    head,
    runner,
    // Laps over the network are long, and the text is the same.
    drafts: true,
    ...(draft && { draft }),
    close: async () => {
      await head.close()
      await chosen.engine.close()
    },
  })
  post({
    type: 'loaded',
    model: {
      engine: chosen.engine.name,
      engineDescription: chosen.engine.description,
      why: chosen.why,
      contextLength: languageModel.contextLength,
      hasChatTemplate: tokenizer.hasChatTemplate,
      draft: draft?.name,
      fetchedBytes: part.fetchedBytes,
      cachedBytes: part.cachedBytes,
    },
  })
}

/** The draft in whole, on the same engine. Chats go on without one that does not load. */
async function loadDraft(
  source: DraftSource,
  key: string | undefined,
  target: Model,
  engine: Engine,
): Promise<DraftModel | undefined> {
  try {
    // Few use it: the page's start should not wait for its code.
    const { fetchDraft } = await import('./fetch-draft.ts')
    return await fetchDraft(source, { key, target, engine, log })
  } catch (error) {
    log.warn(`no draft model: ${errorMessage(error)}`)
    return undefined
  }
}

async function loadHead({ model }: FetchedPart): Promise<{ chosen: ChosenEngine; head: EngineHead }> {
  let failed: unknown
  for await (const chosen of tabEngines(log)) {
    try {
      return { chosen, head: await chosen.engine.loadHead(model) }
    } catch (error) {
      failed = error
      await chosen.engine.close()
    }
  }
  throw failed
}

async function answer(id: number, request: AnswerRequest): Promise<void> {
  const model = languageModel
  if (model === undefined) throw new ChoraleError('internal', 'no model is loaded')
  const controller = new AbortController()
  answers.set(id, controller)
  const text = gatherText((piece) => post({ type: 'text', id, text: piece }))
  try {
    const fitted = model.tokenizer.hasChatTemplate
      ? fitConversation(model, request.system, request.messages, request.maxTokens)
      : rawPrompt(model, request.messages.at(-1)?.content ?? '', request.maxTokens)
    post({ type: 'fitted', id, dropped: fitted.dropped })
    const events = model.generate({
      promptIds: fitted.promptIds,
      sampling: request.sampling,
      signal: controller.signal,
      ...(fitted.maxTokens !== undefined && { maxTokens: fitted.maxTokens }),
    })
    for await (const event of events) {
      if (event.type === 'token') text.push(event.text)
      else if (event.type === 'done') {
        text.flush()
        post({ type: 'done', id, done: event })
      } else {
        const { span, from, reason, recoveryMs } = event
        post({ type: 'failover', id, failover: { span, from, reason, recoveryMs } })
      }
    }
  } finally {
    text.flush()
    answers.delete(id)
  }
}

self.addEventListener('message', ({ data }: MessageEvent<Command>) => {
  switch (data.type) {
    case 'load':
      load(data).catch((error: unknown) => post({ type: 'loadFailed', error: toWire(error) }))
      return
    case 'answer':
      answer(data.id, data.request).catch((error: unknown) =>
        post({ type: 'answerFailed', id: data.id, error: toWire(error) }),
      )
      return
    case 'stop':
      answers.get(data.id)?.abort(new ChoraleError('cancelled', 'stopped'))
      return
    case 'pieceList':
    case 'piece':
    case 'piecesDone':
      pieces.receive(data)
      return
    default:
      runner?.receive(data)
  }
})
