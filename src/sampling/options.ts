/** How the next token is chosen. Defaults change nothing: temperature 0 is greedy. */
export interface SamplingOptions {
  /** 0 = greedy (no noise). */
  readonly temperature?: number
  /** Keep the k most likely tokens; 0 or undefined = all. */
  readonly topK?: number
  /** Keep the smallest set whose probability reaches p; 1 or undefined = all. */
  readonly topP?: number
  /** Drop tokens less likely than minP × the most likely one; 0 or undefined = none. */
  readonly minP?: number
  /** > 1 makes tokens of the prompt and answer less likely (divides positive, multiplies negative logits). */
  readonly repetitionPenalty?: number
  /** Subtracted once from tokens of the answer that occurred. */
  readonly presencePenalty?: number
  /** Subtracted per occurrence in the answer. */
  readonly frequencyPenalty?: number
  /** Added to the logits of these token ids. */
  readonly logitBias?: ReadonlyMap<number, number>
  /** Unsigned 64-bit as bigint or a non-negative safe integer. Same seed, same text. Default 0: who wants variety draws one. */
  readonly seed?: number | bigint
  /** How many alternatives' log-probabilities to return a step; undefined = no logprobs at all. */
  readonly topLogprobs?: number
}

/** A chosen token. Log-probabilities are of the model's raw logits: penalties, temperature, filters and noise not applied. */
export interface SampledToken {
  readonly id: number
  readonly logprob: number | undefined
  readonly topLogprobs: readonly { readonly id: number; readonly logprob: number }[]
}
