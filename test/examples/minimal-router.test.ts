/**
 *   192.168.1.1 on tun0 ─ a ─ 10.0.9.1 ════ veth ════ 10.0.9.2 ─ b ─ tun0 with 192.168.2.1
 *
 * The example, built as its README says, in each of two namespaces. `raw-socket` needs a compiler: where
 * there is none the test is skipped and says so.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { poll, systemClock } from '../../src/base/clock.ts';
import { pingAtOnce } from '../helpers/ping.ts';

const EXAMPLE = join(import.meta.dirname, '../../examples/minimal-router');
const TSC = join(import.meta.dirname, '../../node_modules/.bin/tsc');

/** Where node-gyp finds this Node's headers without a download; undefined where they are not installed. */
const nodeDirectory = join(process.execPath, '../..');
const hasHeaders = existsSync(join(nodeDirectory, 'include/node/node.h'));

function isInstalled(program: string): boolean {
  return (process.env.PATH ?? '').split(':').some((directory) => existsSync(join(directory, program)));
}

function whyNot(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root';
  if (!existsSync('/dev/net/tun')) return 'needs /dev/net/tun';
  const missing = ['g++', 'make', 'python3'].filter((program) => !isInstalled(program));
  if (missing.length > 0) return `raw-socket needs a compiler: no ${missing.join(', ')} here`;
  return hasHeaders ? undefined : `raw-socket needs Node's headers: no ${nodeDirectory}/include/node/node.h`;
}

function ip(...words: string[]): string {
  return execFileSync('ip', words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], timeout: 10_000 });
}

/** One router in a namespace of its own; `stop` ends it and gives the counters that it prints. */
function startRouter(directory: string, namespace: string, peer: string) {
  const words = ['netns', 'exec', namespace, process.execPath, 'dist/minimal-router.js', 'tun0', peer];
  const child: ChildProcess = spawn('ip', words, { cwd: directory, stdio: ['ignore', 'pipe', 'pipe'] });
  let printed = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (printed += chunk));
  const exited = new Promise((resolve) => child.once('close', resolve));
  return {
    printed: () => printed,
    async stop(): Promise<Record<string, number>> {
      child.kill('SIGTERM');
      await exited;
      return JSON.parse(printed.slice(printed.indexOf('\n{')));
    },
  };
}

const reason = whyNot();
const title = reason ? `minimal-router: skipped, ${reason}` : 'minimal-router';

describe.skipIf(reason !== undefined)(title, () => {
  const suffix = process.pid.toString(36);
  const [a, b] = [`tortie-mini-${suffix}-a`, `tortie-mini-${suffix}-b`];
  const directory = mkdtempSync(join(tmpdir(), 'tortie-minimal-router-'));

  beforeAll(() => {
    cpSync(EXAMPLE, directory, {
      recursive: true,
      filter: (from) => !/node_modules|\/dist$/.test(from.slice(EXAMPLE.length)),
    });
    execFileSync('npm', ['install', '--omit=dev', '--no-audit', '--no-fund', '--prefer-offline'], {
      cwd: directory,
      env: { ...process.env, npm_config_nodedir: nodeDirectory },
      stdio: 'pipe',
      timeout: 200_000,
    });
    const types = join(import.meta.dirname, '../../node_modules/@types');
    execFileSync(TSC, ['-p', directory, '--typeRoots', types], { stdio: 'pipe', timeout: 60_000 });

    for (const namespace of [a, b]) ip('netns', 'add', namespace);
    ip('-n', a, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', b);
    for (const [namespace, here, there] of [
      [a, 1, 2],
      [b, 2, 1],
    ] as const) {
      ip('-n', namespace, 'address', 'add', `10.0.9.${here}/24`, 'dev', 'eth0');
      ip('-n', namespace, 'link', 'set', 'eth0', 'up');
      ip('-n', namespace, 'tuntap', 'add', 'dev', 'tun0', 'mode', 'tun');
      ip('-n', namespace, 'address', 'add', `192.168.${here}.1/32`, 'dev', 'tun0');
      ip('-n', namespace, 'link', 'set', 'tun0', 'up', 'mtu', '1480');
      ip('-n', namespace, 'route', 'add', `192.168.${there}.0/24`, 'dev', 'tun0');
    }
  }, 300_000);

  afterAll(() => {
    for (const namespace of [a, b]) {
      if (ip('netns', 'list').includes(namespace)) ip('netns', 'delete', namespace);
    }
    rmSync(directory, { recursive: true, force: true });
  });

  test('pings pass through two of them, the largest without fragments included', async () => {
    const routers = [
      startRouter(directory, a, '192.168.2.0/24=10.0.9.2'),
      startRouter(directory, b, '192.168.1.0/24=10.0.9.1'),
    ];
    const stopAll = () => Promise.all(routers.map((router) => router.stop()));
    onTestFinished(() => void stopAll().catch(() => {}));
    const ready = await poll(systemClock, 20_000, 50, async () =>
      routers.every((router) => router.printed().includes('forwarding between')) ? true : undefined,
    );
    expect(ready, routers.map((router) => router.printed()).join('\n')).toBe(true);
    // 1452 bytes of data and 28 of headers: the tunnel's MTU exactly.
    const words = '-M do -s 1452 -c 5 -I 192.168.1.1 192.168.2.1'.split(' ');
    expect(ip('netns', 'exec', a, ...pingAtOnce(...words))).toContain('5 packets transmitted, 5 received');
    for (const counters of await stopAll()) {
      expect(counters).toMatchObject({ outbound_encapsulated: 5, inbound_decapsulated: 5 });
    }
  });
});

test('the example is one file of less than 200 lines, and the root installs none of its dependencies', () => {
  expect(readFileSync(join(EXAMPLE, 'minimal-router.ts'), 'utf8').split('\n').length).toBeLessThan(200);
  const root = JSON.parse(readFileSync(join(EXAMPLE, '../../package-lock.json'), 'utf8'));
  expect(Object.keys(root.packages)).not.toContain('node_modules/raw-socket');
});
