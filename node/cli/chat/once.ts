import type { LanguageModel } from '../../../src/session/language-model.ts'
import { createStyle, printable, write, type OutputStream } from '../terminal.ts'
import { ask, statsLines } from './answer.ts'
import { fitConversation, rawPrompt } from '../../../src/session/conversation.ts'
import { samplingOf, type ChatSettings } from './settings.ts'

export interface OnceOptions {
  readonly languageModel: LanguageModel
  readonly settings: ChatSettings
  readonly prompt: string
  /** Print one JSON document instead of the text. */
  readonly json: boolean
  /** Continue the text as it is, without the chat template. */
  readonly raw: boolean
  readonly output: OutputStream
  readonly errors: OutputStream
  readonly signal: AbortSignal
}

const EXIT_INTERRUPTED = 130

/**
 * Answers one prompt on `output`; notes go to `errors`.
 * @returns the exit code: 0, or 130 when it was stopped.
 * @throws `context_length` and what `LanguageModel.generate` throws.
 */
export async function answerOnce(options: OnceOptions): Promise<number> {
  const { languageModel, settings, prompt, json, output, errors, signal } = options
  const { tokenizer, model } = languageModel
  const style = createStyle(errors)
  const note = (text: string) => errors.write(`${style.dim(text)}\n`)
  if (!tokenizer.hasChatTemplate && !options.raw) note(noTemplateWords(model.name))
  const { promptIds, maxTokens } =
    options.raw || !tokenizer.hasChatTemplate
      ? rawPrompt(languageModel, prompt, settings.maxTokens)
      : fitConversation(
          languageModel,
          settings.system,
          [{ role: 'user', content: prompt }],
          settings.maxTokens,
        )
  if (maxTokens !== undefined && maxTokens !== settings.maxTokens) {
    note(
      `the context of ${languageModel.contextLength} tokens leaves room for an answer of ${maxTokens} tokens`,
    )
  }
  const sampling = { ...samplingOf(settings, model.generationDefaults), ...(json ? { topLogprobs: 0 } : {}) }
  // On a terminal the model's words must not become its commands; in a pipe they stay as they are.
  const clean = output.isTTY === true ? printable : (text: string) => text
  const asked = await ask({
    languageModel,
    promptIds,
    maxTokens,
    sampling,
    stop: settings.stop,
    signal,
    onText: (text) => (json ? undefined : write(output, clean(text))),
    onFailover: note,
  })
  const { done, tokens, text } = asked
  if (json) {
    const document = {
      model: model.id,
      promptIds,
      ids: tokens.map(({ id }) => id),
      text,
      logprobs: tokens.map(({ logprob }) => logprob ?? null),
      usage: done?.usage ?? { promptTokens: promptIds.length, completionTokens: tokens.length },
      route: (done?.route ?? []).map(({ peer, start, end, engine }) => ({ peer, start, end, engine })),
      finishReason: asked.cancelled ? 'cancelled' : done?.finishReason,
      failovers: done?.failovers ?? 0,
      ...(done?.drafts && { drafts: done.drafts }),
      timings: done?.timings ?? null,
      // A string: half of all 64-bit seeds would not survive a JSON number.
      seed: String(sampling.seed),
    }
    await write(output, `${JSON.stringify(document)}\n`)
  } else {
    await write(output, '\n')
  }
  if (settings.verbose && done !== undefined) for (const line of statsLines(done, sampling.seed)) note(line)
  return asked.cancelled ? EXIT_INTERRUPTED : 0
}

/** Said once when a model can't chat. */
export function noTemplateWords(name: string): string {
  return `${name} has no chat template: your text is continued as it is`
}
