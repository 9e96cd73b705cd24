/** A line of a plot: points by number of servers. */
export interface PlotLine {
  readonly name: string
  readonly points: readonly { readonly x: number; readonly y: number }[]
  /** Computed, not measured. */
  readonly dashed?: boolean
  /** Drawn in the colour of that line, and not named again. */
  readonly like?: number
}

export interface PlotOptions {
  readonly title: string
  readonly unit: string
  readonly lines: readonly PlotLine[]
  /** Names of the lines at the bottom, where the lines run at the top. */
  readonly namesBelow?: boolean
  /** Logarithmic upwards too. */
  readonly logY?: boolean
}

const WIDTH = 640
const HEIGHT = 320
const LEFT = 64
const RIGHT = 36
const TOP = 36
const BOTTOM = 40
const COLOURS = ['#2f6fb0', '#c2571a', '#3a8a4d', '#8a4da0']

/** An SVG picture of lines over the number of servers, which is drawn logarithmically. Readable on light and dark pages. */
export function plotSvg({ title, unit, lines, logY = false, namesBelow = false }: PlotOptions): string {
  const points = lines
    .flatMap((line) => line.points)
    .filter(({ y }) => Number.isFinite(y) && (!logY || y > 0))
  const scale = (value: number): number => (logY ? Math.log10(value) : value)
  const xs = points.map(({ x }) => Math.log10(x))
  const ys = points.map(({ y }) => scale(y))
  const [x0, x1] = [Math.floor(Math.min(...xs)), Math.ceil(Math.max(...xs))]
  const y0 = logY ? Math.floor(Math.min(...ys)) : 0
  const y1 = logY ? Math.ceil(Math.max(...ys)) : niceTop(Math.max(...ys))
  const across = (x: number): number => LEFT + ((x - x0) / (x1 - x0 || 1)) * (WIDTH - LEFT - RIGHT)
  const up = (y: number): number => HEIGHT - BOTTOM - ((y - y0) / (y1 - y0 || 1)) * (HEIGHT - TOP - BOTTOM)
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    `<text x="${LEFT}" y="20" font-size="14" font-weight="bold">${title}</text>`,
    `<text x="${WIDTH - RIGHT}" y="${HEIGHT - 6}" text-anchor="end">servers</text>`,
    `<text x="4" y="20">${unit}</text>`,
  ]
  for (let x = x0; x <= x1; x++) {
    parts.push(`<path d="M${across(x)} ${TOP}V${HEIGHT - BOTTOM}" stroke="#ddd"/>`)
    parts.push(`<text x="${across(x)}" y="${HEIGHT - BOTTOM + 16}" text-anchor="middle">${10 ** x}</text>`)
  }
  const steps = logY ? y1 - y0 : 5
  for (let i = 0; i <= steps; i++) {
    const y = y0 + ((y1 - y0) * i) / steps
    const label = logY ? 10 ** y : y
    parts.push(`<path d="M${LEFT} ${round(up(y))}H${WIDTH - RIGHT}" stroke="#ddd"/>`)
    parts.push(
      `<text x="${LEFT - 6}" y="${round(up(y) + 4)}" text-anchor="end">${Number(label.toPrecision(3))}</text>`,
    )
  }
  for (const [i, { name, points: at, dashed, like }] of lines.entries()) {
    const colour = COLOURS[(like ?? i) % COLOURS.length]!
    const shown = at.filter(({ y }) => Number.isFinite(y) && (!logY || y > 0))
    const path = shown.map(({ x, y }) => `${round(across(Math.log10(x)))} ${round(up(scale(y)))}`).join('L')
    const dash = dashed ? ' stroke-dasharray="6 4"' : ''
    parts.push(`<path d="M${path}" fill="none" stroke="${colour}" stroke-width="2"${dash}/>`)
    for (const { x, y } of dashed ? [] : shown) {
      parts.push(
        `<circle cx="${round(across(Math.log10(x)))}" cy="${round(up(scale(y)))}" r="3" fill="${colour}"/>`,
      )
    }
    if (like !== undefined) continue
    parts.push(
      `<text x="${LEFT + 12}" y="${(namesBelow ? HEIGHT - BOTTOM - 64 : TOP + 16) + 16 * i}" fill="${colour}">${name}</text>`,
    )
  }
  return `${parts.join('\n')}\n</svg>\n`
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}

/** The next round number up: one, two or five with zeros. */
function niceTop(value: number): number {
  if (value <= 0) return 1
  const unit = 10 ** Math.floor(Math.log10(value))
  return unit * ([1, 2, 5, 10].find((factor) => factor * unit >= value) ?? 10)
}
