/** Runs jobs one after another in the order they were handed in; one job's failure does not touch the next. */
export type InTurn = <T>(job: () => Promise<T>) => Promise<T>

/** A queue of its own. Not bounded: callers limit how many jobs they hand in. */
export function createInTurn(): InTurn {
  let last: Promise<unknown> = Promise.resolve()
  return (job) => {
    const result = last.then(job)
    last = result.catch(() => undefined)
    return result
  }
}
