import { defineConfig } from 'vite'

/** The pages. `vite build web` writes them to `dist/web`; any host can serve that folder. */
export default defineConfig({
  root: import.meta.dirname,
  // Relative: the pages work under any path.
  base: './',
  define: { global: 'globalThis' },
  resolve: {
    alias: [
      {
        // A table of 50 kB, computed instead.
        find: /^\.\/generated-prefix-list\.js$/,
        replacement: `${import.meta.dirname}/network/refresh-prefixes.ts`,
      },
    ],
  },
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: {
    outDir: '../dist/web',
    emptyOutDir: true,
    target: 'es2022',
    // Small files as data: URLs would need holes in the content security policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rolldownOptions: { input: 'index.html' },
  },
  worker: { format: 'es' },
  server: {
    // The model and the state of the swarm come from a gateway: `npm start -- --no-chat` in another terminal.
    proxy: { '/api': 'http://127.0.0.1:8787', '/v1': 'http://127.0.0.1:8787' },
    headers: {
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-embedder-policy': 'require-corp',
    },
  },
})
