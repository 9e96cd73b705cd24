/** The question that tests ask the bundled model, and what it answers. */

import { expect } from 'vitest'
import { runChorale } from '../cli/run-chorale.ts'

export const PROMPT = 'Tell me a story about a fox.'

/** The greedy answer of one process without a network. */
export async function referenceStory(maxTokens: number): Promise<string> {
  const args = ['chat', '--local', '--once', PROMPT, '--greedy', '--json', '--max-tokens', String(maxTokens)]
  return (JSON.parse((await runChorale(args)).out) as { text: string }).text
}

/** What a gateway answered, and who computed it. */
export interface GatewayStory {
  readonly text: string
  /** Peer ids, in the order of their blocks. */
  readonly peers: readonly string[]
  /** Servers that were replaced during the answer. */
  readonly failovers: number
}

/** The greedy answer of a gateway's client, a process of Node. */
export async function askGateway(url: string, maxTokens: number): Promise<GatewayStory> {
  const response = await fetch(new URL('v1/chat/completions', url), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model: 'storyteller',
      messages: [{ role: 'user', content: PROMPT }],
      temperature: 0,
      max_tokens: maxTokens,
    }),
  })
  const body = (await response.json()) as {
    choices: [{ message: { content: string } }]
    swarm: { route: { peer: string }[]; failovers: number }
  }
  expect(response.status, JSON.stringify(body)).toBe(200)
  return {
    text: body.choices[0].message.content,
    peers: body.swarm.route.map(({ peer }) => peer),
    failovers: body.swarm.failovers,
  }
}
