/** What a GPU can do at most, measured, and what an engine asks of it, counted. */

const READ_SHADER = `
@group(0) @binding(0) var<storage, read> source: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;
@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  var sum = vec4f();
  let stride = groups.x * 256u;
  for (var i = id.x; i < arrayLength(&source); i += stride) { sum += source[i]; }
  sums[id.x] = sum.x + sum.y + sum.z + sum.w;
}`

/** Eight independent chains of multiply-adds an invocation, so that latency hides. */
const FMA_SHADER = `
override rounds: u32 = 512u;
@group(0) @binding(0) var<storage, read_write> sums: array<vec4f>;
@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let m = vec4f(0.999, 0.998, 0.997, 0.996) + f32(id.x) * 1e-9;
  var a = array<vec4f, 8>();
  for (var k = 0u; k < 8u; k++) { a[k] = vec4f(f32(k)); }
  for (var i = 0u; i < rounds; i++) {
    for (var k = 0u; k < 8u; k++) { a[k] = fma(a[k], m, vec4f(0.5)); }
  }
  var sum = vec4f();
  for (var k = 0u; k < 8u; k++) { sum += a[k]; }
  sums[id.x] = sum;
}`

const ROUNDS = 5

/** Bytes a second that a plain kernel reads: the roofline of decoding. */
export async function readBandwidth(device: GPUDevice, bytes: number): Promise<number> {
  const groups = 2048
  const source = device.createBuffer({ size: bytes, usage: GPUBufferUsageStorage })
  const sums = device.createBuffer({ size: groups * 256 * 4, usage: GPUBufferUsageStorage })
  const seconds = await fastest(device, READ_SHADER, {}, [source, sums], groups)
  source.destroy()
  sums.destroy()
  return bytes / seconds
}

/** Floating-point operations a second of multiply-adds in float32: the peak of prefill. */
export async function peakFlops(device: GPUDevice, rounds: number): Promise<number> {
  const groups = 4096
  const sums = device.createBuffer({ size: groups * 256 * 16, usage: GPUBufferUsageStorage })
  const seconds = await fastest(device, FMA_SHADER, { rounds }, [sums], groups)
  sums.destroy()
  return (groups * 256 * rounds * 8 * 4 * 2) / seconds
}

/** `GPUBufferUsage.STORAGE`: the namespace is no global in Node. */
const GPUBufferUsageStorage = 0x80

async function fastest(
  device: GPUDevice,
  code: string,
  constants: Record<string, number>,
  buffers: readonly GPUBuffer[],
  groups: number,
): Promise<number> {
  const module = device.createShaderModule({ code })
  const pipeline = await device.createComputePipelineAsync({
    layout: 'auto',
    compute: { module, entryPoint: 'main', constants },
  })
  const entries = buffers.map((buffer, binding) => ({ binding, resource: { buffer } }))
  const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries })
  let best = Infinity
  for (let round = 0; round <= ROUNDS; round++) {
    const encoder = device.createCommandEncoder()
    const pass = encoder.beginComputePass()
    pass.setPipeline(pipeline)
    pass.setBindGroup(0, group)
    pass.dispatchWorkgroups(groups)
    pass.end()
    const started = performance.now()
    device.queue.submit([encoder.finish()])
    await device.queue.onSubmittedWorkDone()
    if (round > 0) best = Math.min(best, (performance.now() - started) / 1000)
  }
  return best
}

/** Counts of one engine's device since `reset`. */
export interface GpuCounts {
  dispatches: number
  submits: number
  /** When the last submit returned, on `performance.now`'s clock. */
  submittedAt: number
}

/** The same GPU, whose next device's dispatches and submits are counted. */
export function countingGpu(gpu: GPU): { readonly gpu: GPU; readonly counts: GpuCounts } {
  const counts: GpuCounts = { dispatches: 0, submits: 0, submittedAt: 0 }
  const counting = {
    wgslLanguageFeatures: gpu.wgslLanguageFeatures,
    requestAdapter: async (options?: GPURequestAdapterOptions) => {
      const adapter = await gpu.requestAdapter(options)
      if (adapter === null) return null
      const requestDevice = adapter.requestDevice.bind(adapter)
      adapter.requestDevice = async (descriptor) => watch(await requestDevice(descriptor), counts)
      return adapter
    },
  }
  return { gpu: counting as unknown as GPU, counts }
}

function watch(device: GPUDevice, counts: GpuCounts): GPUDevice {
  const { queue } = device
  const submit = queue.submit.bind(queue)
  queue.submit = (buffers) => {
    submit(buffers)
    counts.submits++
    counts.submittedAt = performance.now()
    return undefined
  }
  const createCommandEncoder = device.createCommandEncoder.bind(device)
  device.createCommandEncoder = (descriptor) => {
    const encoder = createCommandEncoder(descriptor)
    const beginComputePass = encoder.beginComputePass.bind(encoder)
    encoder.beginComputePass = (pass) => {
      const compute = beginComputePass(pass)
      const dispatch = compute.dispatchWorkgroups.bind(compute)
      compute.dispatchWorkgroups = (x, y, z) => {
        counts.dispatches++
        return dispatch(x, y, z)
      }
      return compute
    }
    return encoder
  }
  return device
}
