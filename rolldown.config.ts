/**
 * After tsc has written dist/, the command and the data plane's worker are written over with bundles: a
 * process reads a few files where it would read a hundred (`tortie get nodes` spent more than half of its time
 * on finding and opening modules). The other modules of dist/ stay as they are, for who imports one.
 */
import { defineConfig } from 'rolldown';

export default defineConfig({
  input: { 'cli/main': 'src/cli/main.ts', 'agent/data-plane-worker': 'src/agent/data-plane-worker.ts' },
  platform: 'node',
  // Native parts, files and threads that these packages look for beside themselves; and what only agents use.
  external: ['koffi', 'etcd3', 'pino-pretty', 'prom-client', /^@grpc\//],
  output: {
    dir: 'dist',
    entryFileNames: '[name].js',
    chunkFileNames: 'bundle/[name]-[hash].js',
    sourcemap: true,
    // What every command needs, in one file.
    codeSplitting: { groups: [{ name: 'base', test: /[/]src[/](base|ip)[/]/ }] },
  },
});
