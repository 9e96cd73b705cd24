import type { ErrorCode } from '../../src/errors.ts'
import { strings } from '../strings.ts'

/** What went wrong and what helps, for a person; the error's own words follow where they say more. */
export function problemText(code: ErrorCode, message: string, field?: string): string {
  const { problems } = strings
  if (field === 'key') return problems.key
  if (field === 'swarm') return problems.noSwarm
  if (field === 'pass') return `${problems.noPass} (${message})`
  if (field === 'stake') return `${problems.noStake} (${message})`
  switch (code) {
    case 'no_chain':
    case 'capacity':
    case 'session_lost':
    case 'unreachable':
    case 'context_length':
    case 'timeout':
      return `${problems[code]} (${message})`
    default:
      return `${problems.other} ${message}`
  }
}
