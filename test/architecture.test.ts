import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { describe, expect, it } from 'vitest'

/** The rules of ARCHITECTURE.md, checked instead of hoped for. */

const ROOT = join(import.meta.dirname, '..')

/** Folders by height: a file may import from its own folder, and from folders below its own row. */
const ROWS: readonly (readonly string[])[] = [
  ['node', 'web'],
  ['src/api'],
  ['src/server'],
  ['src/attest'],
  ['src/swarm', 'src/store'],
  ['src/ledger'],
  ['src/session'],
  ['src/protocol'],
  ['src/routing'],
  ['src/sampling', 'src/tokenizer'],
  ['src/engine'],
  ['src/kv', 'src/gpu'],
  ['src/model'],
  ['src/tensor'],
  ['src'],
]

/** Each heavy dependency has one address. */
const ADDRESSES: readonly { readonly name: RegExp; readonly only: RegExp }[] = [
  { name: /^(libp2p$|@libp2p\/|@multiformats\/)/, only: /^src\/swarm\// },
  { name: /^onnxruntime-web/, only: /^src\/engine\/onnx/ },
  { name: /^webgpu$/, only: /^node\/gpu\.ts$/ },
  { name: /^hono/, only: /^(src\/api\/|node\/)/ },
  { name: /^@hono\//, only: /^node\// },
  { name: /^@polkadot\//, only: /^src\/ledger\/substrate/ },
  { name: /^(fzstd|@polkadot-api\/)/, only: /^src\/ledger\/devnet\// },
  { name: /^(commander|ws)$/, only: /^node\// },
]

/** Pure folders decide from their arguments alone. */
const PURE = ['src/routing', 'src/sampling', 'src/server/admission.ts']

interface Source {
  readonly path: string
  readonly text: string
  readonly imports: readonly string[]
}

function sources(...folders: string[]): Source[] {
  return folders.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.tsx?$/.test(name))
      .map((name) => {
        const path = join(folder, name)
        const text = readFileSync(join(ROOT, path), 'utf8')
        const imports = [...text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map(
          (match) => match[1] as string,
        )
        return { path, text, imports }
      }),
  )
}

function row(path: string): number {
  return ROWS.findIndex((folders) => folders.some((folder) => path.startsWith(`${folder}/`)))
}

function target(source: Source, specifier: string): string | undefined {
  return specifier.startsWith('.') ? normalize(join(dirname(source.path), specifier)) : undefined
}

describe('architecture', () => {
  const all = sources('src', 'node', 'web')

  it('imports point down', () => {
    const wrong = all.flatMap((source) =>
      source.imports.flatMap((specifier) => {
        const path = target(source, specifier)
        if (path === undefined || path.startsWith('package.json')) return []
        const same =
          dirname(path) === dirname(source.path) || sharedFolder(source.path) === sharedFolder(path)
        return same || row(path) > row(source.path) ? [] : [`${source.path} → ${path}`]
      }),
    )
    expect(wrong).toEqual([])
  })

  it('src names no platform', () => {
    const wrong = sources('src').flatMap(({ path, imports }) =>
      imports.filter((name) => name.startsWith('node:')).map((name) => `${path} → ${name}`),
    )
    expect(wrong).toEqual([])
  })

  it('each heavy dependency has one address', () => {
    const wrong = all.flatMap(({ path, imports }) =>
      imports.flatMap((name) => {
        const rule = ADDRESSES.find((address) => address.name.test(name))
        return rule === undefined || rule.only.test(path) ? [] : [`${path} → ${name}`]
      }),
    )
    expect(wrong).toEqual([])
  })

  it('pure folders use no clock and no randomness', () => {
    const wrong = sources('src')
      .filter(({ path }) => PURE.some((pure) => path.startsWith(pure)))
      .filter(({ text }) =>
        /Date\.now|Math\.random|performance\.now|setTimeout|crypto\.getRandomValues/.test(text),
      )
    expect(wrong.map(({ path }) => path)).toEqual([])
  })

  it('there are no barrels', () => {
    expect(
      all
        .filter(({ path }) => /(^|\/)index\.ts$/.test(path) && path !== 'src/index.ts')
        .map(({ path }) => path),
    ).toEqual([])
  })
})

/** Top folder of a module: `src/engine` for src/engine/reference/block.ts. */
function sharedFolder(path: string): string {
  return path
    .split('/')
    .slice(0, path.startsWith('src/') ? 2 : 1)
    .join('/')
}
