import type { ComponentType } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { strings } from '../strings.ts'

/** A page whose code is fetched when it is first shown: who only chats loads nothing else. */
export function lazyPage(load: () => Promise<ComponentType>): ComponentType {
  let loaded: ComponentType | undefined
  return function LazyPage() {
    const [Page, setPage] = useState<ComponentType | undefined>(() => loaded)
    const [failed, setFailed] = useState(false)
    useEffect(() => {
      if (Page !== undefined) return
      const show = async (): Promise<void> => {
        loaded = await load()
        setPage(() => loaded)
      }
      show().catch(() => setFailed(true))
    }, [])
    if (Page !== undefined) return <Page />
    return failed ? <p class="notice">{strings.problems.pageMissing}</p> : null
  }
}
