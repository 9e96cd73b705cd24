/** `837 kB`, `1.2 GB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let value = bytes
  let unit = 0
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000
    unit++
  }
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toPrecision(2)} ${units[unit]}`
}

/** `0.42 s`. */
export function formatSeconds(ms: number): string {
  const seconds = ms / 1000
  return `${seconds >= 10 ? Math.round(seconds) : seconds.toFixed(seconds >= 1 ? 1 : 2)} s`
}

/** A round trip: `3.2 ms`, `48 ms`. */
export function formatMs(ms: number): string {
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`
}

/** Three digits: `49.8`, `1240`. */
export function formatRate(perSecond: number): string {
  return perSecond >= 100 ? String(Math.round(perSecond)) : perSecond.toPrecision(3)
}

/** The end of a peer id, which is where ids differ. */
export function shortPeer(peer: string): string {
  return peer.length > 16 ? `…${peer.slice(-8)}` : peer
}

/** A share of 1: `67 %`, `0.5 %`. */
export function formatPercent(share: number): string {
  const percent = share * 100
  return `${percent > 0 && percent < 1 ? percent.toPrecision(1) : Math.round(percent)} %`
}
