import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { resolveShader } from '../../src/gpu/shader-set.ts'
import { testShaders } from './test-context.ts'

/** What every kernel promises its readers; needs no GPU. */

const ROOT = join(import.meta.dirname, '../..')
const shaders = await testShaders()
const kernels = [...shaders].filter(([path]) => !path.startsWith('lib/'))

describe('shaders', () => {
  it('are there', () => {
    expect(kernels.map(([path]) => path).toSorted()).toEqual([
      'argmax.wgsl',
      'attention.wgsl',
      'attention_reduce.wgsl',
      'expert_matmul.wgsl',
      'layer_norm.wgsl',
      'matmul.wgsl',
      'matmul_tiled.wgsl',
      'rms_norm.wgsl',
      'rope_kv_write.wgsl',
      'route.wgsl',
    ])
  })

  it.each(kernels)('%s has a header, a host twin and an entry point', (path, text) => {
    const header = text.slice(0, text.indexOf('\n\n'))
    for (const field of ['Formula:', 'Shapes:', 'Dispatch:', 'Reduction:', 'Source:']) {
      expect(header, `${path} lacks ${field}`).toContain(`// ${field}`)
    }
    expect(text).toMatch(/@compute @workgroup_size\(64\)\nfn main\(/)
    const twin = join(ROOT, 'src/gpu/ops', path.replaceAll('_', '-').replace('.wgsl', '.ts'))
    expect(existsSync(twin), twin).toBe(true)
    expect(readFileSync(twin, 'utf8')).toContain(`'${path}'`)
  })

  it.each(kernels)('%s binds params first, the output last, as its host twin says', (path, text) => {
    const bindings = [...text.matchAll(/@binding\((\d+)\) var<([^>]+)>/g)].map((match) => {
      const space = match[2] as string
      return space === 'uniform' ? 'uniform' : space === 'storage, read' ? 'read' : 'write'
    })
    expect(text).toContain('@group(0) @binding(0) var<uniform> params: Params;')
    expect(bindings.at(-1)).toBe('write')
    const twin = join(ROOT, 'src/gpu/ops', path.replaceAll('_', '-').replace('.wgsl', '.ts'))
    const list = /bindings: \[([^\]]+)\]/.exec(readFileSync(twin, 'utf8'))?.[1] ?? ''
    expect([...list.matchAll(/'(\w+)'/g)].map((match) => match[1])).toEqual(bindings)
  })

  it.each(kernels)('%s is compared with plain TypeScript by a test', (path) => {
    const kernel = path.replace('.wgsl', '')
    const files = readdirSync(import.meta.dirname).filter((name) => name.endsWith('.test.ts'))
    const texts = files
      .filter((name) => name !== 'shaders.test.ts')
      .map((name) => readFileSync(join(import.meta.dirname, name), 'utf8'))
    // By its host twin, or by name where several kernels are tested as one.
    const twin = `/ops/${kernel.replaceAll('_', '-')}.ts'`
    expect(texts.some((text) => text.includes(twin) || text.includes(` ${kernel}'`))).toBe(true)
  })

  it('use nothing whose result differs by vendor or order', () => {
    for (const [path, text] of shaders) {
      const code = text.replaceAll(/\/\/.*/g, '')
      expect(code, path).not.toMatch(/\bsubgroup|atomic|inverseSqrt|\b(sin|cos)\(/)
    }
  })
})

describe('resolveShader', () => {
  const sources = new Map([
    ['lib/a.wgsl', 'const A = 1u;'],
    ['k.wgsl', '// include: lib/a.wgsl\nfn main() {}'],
  ])

  it('puts libraries and constants before the kernel, each once', () => {
    expect(resolveShader(sources, 'k.wgsl', ['lib/a.wgsl'], { ROWS: 4 })).toBe(
      'const A = 1u;\nconst ROWS = 4u;\n// include: lib/a.wgsl\nfn main() {}',
    )
  })

  it('names a missing file', () => {
    expect(() => resolveShader(sources, 'k.wgsl', ['lib/b.wgsl'])).toThrow(/lib\/b\.wgsl is missing/)
    expect(() => resolveShader(new Map(), 'k.wgsl')).toThrow(/k\.wgsl is missing/)
  })
})
