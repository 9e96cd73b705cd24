/** Text to token ids and back, for one model. */
export interface Tokenizer {
  readonly vocabSize: number
  readonly bosTokenId: number | undefined
  readonly eosTokenIds: readonly number[]
  /** True when the model brought a chat template. */
  readonly hasChatTemplate: boolean
  /**
   * Leading spaces that `decode` drops from the whole text, default 0. SentencePiece vocabularies put one before
   * every text they encode; text that continues another must keep it.
   */
  readonly leadingSpaces?: number
  encode(text: string, options?: EncodeOptions): number[]
  /** Text of ids; special tokens are left out unless `special` is set. Incomplete UTF-8 becomes U+FFFD. */
  decode(ids: readonly number[], options?: { special?: boolean }): string
  /** The vocabulary entry as stored, e.g. `Ġfox`. */
  token(id: number): string
  /** The bytes the token stands for; may be part of a character. Special tokens: the UTF-8 of their text. */
  tokenBytes(id: number): Uint8Array
  isSpecial(id: number): boolean
  /**
   * Renders the model's chat template and encodes it. Only the template's own markers become special tokens:
   * message text is encoded as plain text, or a user could forge turns.
   * @throws `not_supported` without a template, `bad_request` when the template refuses the messages.
   */
  encodeChat(messages: readonly ChatMessage[], options?: { addGenerationPrompt?: boolean }): number[]
  /** The template's text, for people and tests. Same errors as `encodeChat`. */
  renderChat(messages: readonly ChatMessage[], options?: { addGenerationPrompt?: boolean }): string
}

export interface EncodeOptions {
  /** Whether text that spells a special token becomes that token (default true, as Hugging Face's encode does). */
  parseSpecial?: boolean
  /** Whether the tokenizer's post-processor adds its own tokens, e.g. BOS (default true). */
  addSpecial?: boolean
}

export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant'
  readonly content: string
}
