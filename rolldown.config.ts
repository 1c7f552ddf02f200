/**
 * After tsc has written dist/, the command, the data plane's worker and what measures its loops are written over with bundles: a
 * process reads a few files where it would read a hundred (`tortie get nodes` spent more than half of its time
 * on finding and opening modules). The other modules of dist/ stay as they are, for who imports one.
 */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { defineConfig, type Plugin } from 'rolldown';

/**
 * etcd3 reads etcd's .proto files from beside itself and parses them, at every start. In the bundle it has no such place
 * any more, and finds their contents instead.
 */
function parsedProto(): Plugin {
  const loading = /\.loadSync\)\(`\$\{__dirname\}\/\.\.\/proto\/rpc\.proto`/;
  return {
    name: 'parsed-proto',
    transform: {
      filter: { id: /[/]etcd3[/]lib[/]connection-pool\.js$/ },
      handler(code, id) {
        if (!loading.test(code)) throw new Error(`${id} loads its .proto in a way that we do not know`);
        const messages = JSON.stringify(parseProto(join(dirname(id), '../proto/rpc.proto'), id));
        // Within one line, so the lines that a stack trace names stay.
        return { code: code.replace(loading, () => `.fromJSON)(${messages}`), map: null };
      },
    },
  };
}

/** By the parser that etcd3, whose module is `from`, would use. */
function parseProto(file: string, from: string): object {
  const loader = createRequire(from).resolve('@grpc/proto-loader');
  const { Root } = createRequire(loader)('protobufjs');
  return new Root().loadSync(file, { keepCase: true }).toJSON();
}

/** Native parts, files and threads that these packages look for beside themselves; and what only agents use. */
const external = ['koffi', 'pino-pretty', 'prom-client'];

/** What one chunk has from another is looked up and checked at each use; a constant of its own file is a constant. */
const oneFile = (name: string) =>
  defineConfig({
    input: { [name]: `src/${name}.ts` },
    platform: 'node',
    external,
    output: { dir: 'dist', entryFileNames: '[name].js', sourcemap: true, codeSplitting: false },
  });

export default defineConfig([
  {
    input: { 'cli/main': 'src/cli/main.ts' },
    platform: 'node',
    external,
    plugins: [parsedProto()],
    output: {
      dir: 'dist',
      entryFileNames: '[name].js',
      chunkFileNames: 'bundle/[name]-[hash].js',
      sourcemap: true,
      // What every command needs, in one file.
      codeSplitting: { groups: [{ name: 'base', test: /[/]src[/](base|ip)[/]/ }] },
    },
  },
  oneFile('agent/data-plane-worker'),
  // Measures the same loops, so they have to be built the same way.
  oneFile('bench/micro'),
]);
