import { ChoraleError } from '../errors.ts'
import type { KvRows } from '../kv/kv-rows.ts'
import type { SessionKv } from './span-runner.ts'
import type { Line } from './span-turn.ts'

/**
 * The keys and values of one session of a local span. Pages that were taken over are never kept for other sessions: whose
 * inputs made them is only somebody's word (`prefix-trail.ts` follows no lease that is elsewhere).
 */
export function createSessionKv(rows: KvRows, line: Line): SessionKv {
  const { precision, width } = rows
  const checkIdle = (): void => {
    if (line.closed) throw new ChoraleError('session_lost', 'the session is closed')
    if (line.jobs.length > 0) {
      throw new ChoraleError('bad_request', 'keys and values can not be written while a step is under way')
    }
  }
  return {
    precision,
    width,
    async read(range) {
      if (line.closed) throw new ChoraleError('session_lost', 'the session is closed')
      if (range.to > line.position) {
        throw new ChoraleError('bad_request', `token ${range.to} of a session that holds ${line.position}`)
      }
      return await rows.read(line.lease, range)
    },
    write(range, values) {
      checkIdle()
      rows.write(line.lease, range, values)
    },
    advance(position) {
      checkIdle()
      rows.advance(line.lease, position)
      line.position = position
    },
  }
}
