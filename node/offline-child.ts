/**
 * Entry of a process that belongs to another one: runs `chorale` with this process's arguments until standard input
 * ends. The parent holds the other end, so whatever ends the parent – `kill -9` too – ends this process.
 */

/** A server that finishes its sessions politely gets this long after its parent is gone. */
const GRACE_MS = 2_000

let orphaned = false
const onOrphaned = (): void => {
  if (orphaned) return
  orphaned = true
  process.kill(process.pid, 'SIGTERM')
  setTimeout(() => process.exit(1), GRACE_MS).unref()
}

process.stdin.resume()
// A verb that ends by itself, with an error for example, is not kept alive by its parent.
process.stdin.unref?.()
// Node tells both, Deno only the first.
process.stdin.on('end', onOrphaned)
process.stdin.on('close', onOrphaned)

await import('./main.ts')
