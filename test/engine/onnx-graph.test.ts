import { describe, expect, it } from 'vitest'
import { encodeGraph } from '../../src/engine/onnx/onnx-graph.ts'
import { headLayout, layOutColumns, layOutRows, ropeTable } from '../../src/engine/onnx/head-layout.ts'
import { createOrtRuntime, type OrtValue } from '../../src/engine/onnx/ort-runtime.ts'
import { messageWriter } from '../../src/engine/onnx/protobuf.ts'
import { ODD_SPEC } from './random-model.ts'

describe('messageWriter', () => {
  it('writes the examples of the protocol buffers encoding page', () => {
    expect([...messageWriter().integer(1, 150).finish()]).toEqual([0x08, 0x96, 0x01])
    expect([...messageWriter().string(2, 'testing').finish()]).toEqual([
      0x12,
      7,
      ...new TextEncoder().encode('testing'),
    ])
    expect([...messageWriter().message(3, messageWriter().integer(1, 150)).finish()]).toEqual([
      0x1a, 3, 8, 0x96, 1,
    ])
  })

  it('sign-extends negative integers, keeps 53 bits and writes floats little-endian', () => {
    expect([...messageWriter().integer(1, -2).finish()]).toEqual([
      8,
      0xfe,
      ...Array.from({ length: 8 }, () => 0xff),
      1,
    ])
    expect([
      ...messageWriter()
        .integer(1, 2 ** 53 - 1)
        .finish(),
    ]).toEqual([8, ...Array.from({ length: 7 }, () => 0xff), 15])
    expect([...messageWriter().float(20, 1.5).finish()]).toEqual([0xa5, 0x01, 0, 0, 0xc0, 0x3f])
  })
})

describe('headLayout', () => {
  it('leaves a head of 64, all rotated, as it is', () => {
    const positions = { ...ODD_SPEC.positions, rotaryDim: 64 }
    expect(headLayout({ ...ODD_SPEC, headDim: 64, positions }).plain).toBe(true)
  })

  it('pairs rotated elements half a width apart and places the others once', () => {
    const positions = { ...ODD_SPEC.positions, rotaryDim: 6, inverseFrequencies: [1, 0.5, 0.25] }
    const spec = { ...ODD_SPEC, headDim: 9, positions }
    const layout = headLayout(spec)
    expect(layout.width).toBe(16)
    expect([...layout.rotarySlots]).toEqual([0, 1, 2, 6, 7, 8, -1, -1, 3, 4, 5, -1, -1, -1, -1, -1])
    const { cos, sin } = ropeTable(spec, layout, 2)
    expect([...cos.subarray(8, 16)].map((value) => value / 1.1)).toEqual([
      ...[1, 0.5, 0.25].map((angle) => expect.closeTo(Math.cos(angle), 6)),
      ...Array.from({ length: 5 }, () => expect.closeTo(1 / 1.1, 6)),
    ])
    expect([...sin.subarray(11, 16)]).toEqual([0, 0, 0, 0, 0])
  })

  it('moves rows and columns to the same slots', () => {
    const slots = Int32Array.of(1, -1, 0, -1)
    const rowsOut = new Float32Array(16)
    layOutRows(Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8), rowsOut, slots, 2, 2)
    expect([...rowsOut]).toEqual([3, 4, 0, 0, 1, 2, 0, 0, 7, 8, 0, 0, 5, 6, 0, 0])
    const columnsOut = new Float32Array(16)
    layOutColumns(Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8), columnsOut, slots, 2, 2)
    expect([...columnsOut]).toEqual([2, 0, 1, 0, 4, 0, 3, 0, 6, 0, 5, 0, 8, 0, 7, 0])
  })
})

describe('createOrtRuntime', () => {
  const graph = (op: string) => ({
    name: 'test',
    inputs: [{ name: 'x', type: 'float' as const, shape: ['rows', 2] }],
    outputs: [{ name: 'y', type: 'float' as const, shape: ['rows', 2] }],
    nodes: [{ op, inputs: ['x', 'w'], outputs: ['y'] }],
    weights: [{ name: 'w', shape: [2] }],
  })
  const weights = new Map([['w', Float32Array.of(10, 20)]])

  it('runs a graph in place and reports what onnxruntime refuses', async () => {
    const runtime = await createOrtRuntime(1)
    const session = await runtime.createSession(graph('Add'), weights)
    const address = runtime.allocate(32)
    runtime.floats(address, 4).set([1, 2, 3, 4])
    const value = (at: number, columns: number): OrtValue => ({
      type: 'float',
      address: at,
      shape: [2, columns],
    })
    session.run([value(address, 2)], [value(address + 16, 2)])
    expect([...runtime.floats(address + 16, 4)]).toEqual([11, 22, 13, 24])
    const failed = expect.objectContaining({ code: 'engine' })
    expect(() => session.run([value(address, 3)], [value(address + 16, 2)])).toThrow(failed)
    session.close()
    expect(() => session.run([value(address, 2)], [value(address + 16, 2)])).toThrow(/closed/)
    await expect(runtime.createSession(graph('NoSuchOperator'), weights)).rejects.toThrow(/NoSuchOperator/)
    expect(() => runtime.allocate(2 ** 32 - 2 ** 17)).toThrow(expect.objectContaining({ code: 'capacity' }))
    expect(encodeGraph(graph('Add')).length).toBeLessThan(300)
  })
})
