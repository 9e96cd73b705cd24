import { unsupported } from './errors.ts'

/**
 * Parameters that would change the output and are not computed here, each with what to do instead.
 * A value that asks for nothing (null, false, [], {}) is let through. Everything not named is ignored: it changes nothing.
 */
const REFUSED: Readonly<Record<string, string>> = {
  tools: 'tool calls are not supported; leave it out',
  functions: 'function calls are not supported; leave it out',
  function_call: 'function calls are not supported; leave it out',
  audio: 'only text is supported',
  web_search_options: 'there is no web search here; leave it out',
  reasoning_effort: 'there is no reasoning control here; leave it out',
  json_schema: 'constrained output is not supported; leave it out',
  grammar: 'constrained output is not supported; leave it out',
  guided_json: 'constrained output is not supported; leave it out',
  guided_regex: 'constrained output is not supported; leave it out',
  guided_choice: 'constrained output is not supported; leave it out',
  guided_grammar: 'constrained output is not supported; leave it out',
  structured_outputs: 'constrained output is not supported; leave it out',
  echo: 'the prompt is never repeated; leave it out',
  suffix: 'insertion is not supported; leave it out',
  prompt_logprobs: 'logprobs exist for the answer only; leave it out',
  use_beam_search: 'beam search is not supported; leave it out',
  repeat_penalty: 'use repetition_penalty',
  n_predict: 'use max_tokens',
  stop_token_ids: 'use stop with strings',
  bad_words: 'use logit_bias',
  min_tokens: 'not supported; leave it out',
  length_penalty: 'not supported; leave it out',
  typical_p: 'not supported; use top_p or min_p',
  tfs_z: 'not supported; use top_p or min_p',
  top_a: 'not supported; use top_p or min_p',
  mirostat: 'not supported; use top_p or min_p',
  dynatemp_range: 'not supported; use temperature',
  dry_multiplier: 'not supported; use repetition_penalty',
  xtc_probability: 'not supported; leave it out',
  chat_template: "the model's own chat template is used; leave it out",
  chat_template_kwargs: "the model's own chat template is used; leave it out",
  continue_final_message: 'not supported; leave it out',
  swarm: 'no option of it is supported; leave it out',
}

/** @throws `ApiError` 400 naming the first parameter that would be ignored though it changes the output. */
export function refuseUnsupported(raw: Readonly<Record<string, unknown>>): void {
  for (const [name, advice] of Object.entries(REFUSED)) {
    if (Object.hasOwn(raw, name) && asksForSomething(raw[name])) throw unsupported(name, `${name}: ${advice}`)
  }
  for (const name of ['n', 'best_of']) {
    const value = raw[name] ?? 1
    if (value !== 1) throw unsupported(name, `${name}: only 1 is supported, one answer a request`)
  }
  const choice = raw['tool_choice'] ?? 'none'
  if (choice !== 'none' && choice !== 'auto') {
    throw unsupported('tool_choice', 'tool_choice: tool calls are not supported; leave it out')
  }
  const format = raw['response_format']
  if (format !== undefined && format !== null && typeOf(format) !== 'text') {
    throw unsupported('response_format', 'response_format: only {"type":"text"} is supported')
  }
  const modalities = raw['modalities'] ?? ['text']
  if (!(Array.isArray(modalities) && modalities.every((kind) => kind === 'text'))) {
    throw unsupported('modalities', 'modalities: only ["text"] is supported')
  }
  const verbosity = raw['verbosity'] ?? 'medium'
  if (verbosity !== 'medium')
    throw unsupported('verbosity', 'verbosity: only "medium" is supported; leave it out')
}

function asksForSomething(value: unknown): boolean {
  if (value === undefined || value === null || value === false || value === '' || value === 0) return false
  return typeof value !== 'object' || Object.keys(value).length > 0
}

function typeOf(value: unknown): unknown {
  return typeof value === 'object' && value !== null && 'type' in value ? value.type : undefined
}
