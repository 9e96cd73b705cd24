import { ChoraleError } from '../errors.ts'
import { MAX_LINKS_PER_SESSION } from '../protocol/limits.ts'
import type { Link } from '../protocol/messages.ts'
import type { Feedable, Feeder } from './push-desk.ts'
import { openPushLink, type PushLink } from './push-link.ts'
import type { ServeContext } from './span-host.ts'

/** How one session is linked with servers before and after it. */
export interface SessionLinks {
  /** The stream of the server that feeds this session. */
  readonly feeder: Feeder | undefined
  /** The way to the next server. */
  readonly next: PushLink | undefined
  /** Lets another server's steps in, and opens the way for this session's outputs. @throws `protocol` for too many. */
  take(link: Link): void
  dropNext(): void
  close(): void
}

/** No links yet. `session` is what a server before this one may feed. */
export function createSessionLinks(context: ServeContext, session: Feedable): SessionLinks {
  let feeder: Feeder | undefined
  let unaccept: (() => void) | undefined
  let next: PushLink | undefined
  let count = 0
  return {
    get feeder() {
      return feeder
    },
    get next() {
      return next
    },
    take: (link) => {
      if (++count > MAX_LINKS_PER_SESSION) {
        throw new ChoraleError('protocol', `more than ${MAX_LINKS_PER_SESSION} links of one session`)
      }
      if (link.accept) {
        unaccept?.()
        unaccept = context.desk.accept(link.accept.token, link.accept.peerId, session, (fresh) => {
          feeder?.end(new ChoraleError('session_lost', 'another server took its place'))
          feeder = fresh
        })
      }
      if (link.next) {
        next?.close()
        const { heartbeatMs: everyMs, silenceMs } = context.options
        next = openPushLink(context.peer, link.next, { everyMs, silenceMs })
      }
    },
    dropNext: () => {
      next?.close()
      next = undefined
    },
    close: () => {
      unaccept?.()
      next?.close()
      feeder?.end(new ChoraleError('session_lost', 'the session ended'))
    },
  }
}
