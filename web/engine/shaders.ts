/** WGSL sources by path relative to `shaders/`, as text in a chunk of their own. */
const FILES: Readonly<Record<string, string>> = import.meta.glob('../../shaders/**/*.wgsl', {
  query: '?raw',
  import: 'default',
  eager: true,
})

/** What `Platform.shaders` gives. */
export function tabShaders(): ReadonlyMap<string, string> {
  return new Map(
    Object.entries(FILES).map(([path, text]) => [path.replace(/^.*\/shaders\//, ''), text] as const),
  )
}
