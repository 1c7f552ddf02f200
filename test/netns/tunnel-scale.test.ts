/** 20,000 routes of 5,000 next hops: followed, and one change among them. Bounds are for a loaded machine. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { answered, pingSteadily } from '../helpers/ping.ts';
import { address, block, inner, TunnelHosts } from '../helpers/tunnel-hosts.ts';

const ROUTES = 20_000;
const NEXT_HOPS = 5_000;
/** Processor time of all threads, from exec to forwarding: it does not grow with what others do on the machine. */
const START_CPU_SECONDS = 6;
const CLOCK_TICKS = 100;

const hosts = new TunnelHosts('ts');

beforeAll(async () => {
  hosts.up();
  await hosts.serve('b');
  hosts.configure('b', 'a');
  hosts.ip('a', 'tuntap add dev tunl0 mode tun', 'link set tunl0 mtu 1480');
  hosts.configure('a', 'b');
  hosts.ip('a', ...Array.from({ length: ROUTES }, (_, i) => route('add', i, i)));
});

afterAll(async () => {
  await hosts.down();
});

function route(verb: 'add' | 'replace', i: number, hop: number): string {
  const at = i * 64;
  const prefix = `11.${at >> 16}.${(at >> 8) & 255}.${at & 255}/26`;
  const next = hop % NEXT_HOPS;
  return `route ${verb} ${prefix} via 10.7.${next >> 8}.${next & 255} dev tunl0 onlink`;
}

test('20,000 routes are followed, a change among them is in force at once, and replaced next hops lose nothing', async () => {
  const started = hosts.start('a');
  const status = await hosts.until('a', 'runs', (s) => s.state === 'running');
  expect(status.entries).toBe(ROUTES + 1);
  const [, afterName = ''] = readFileSync(`/proc/${status.pid}/stat`, 'utf8').split(') ');
  const [user, system] = afterName.split(' ').slice(11, 13).map(Number) as [number, number];
  expect((user + system) / CLOCK_TICKS, started.log()).toBeLessThan(START_CPU_SECONDS);

  const words = ['netns', 'exec', hosts.namespace('a'), ...pingSteadily(400, 0.005, inner('b'))];
  const ping = spawn('ip', words, { stdio: ['ignore', 'pipe', 'ignore'], timeout: 60_000 });
  let text = '';
  ping.stdout.setEncoding('utf8').on('data', (part: string) => {
    text += part;
  });
  const ended = new Promise((resolve) => ping.once('close', resolve));
  hosts.ip('a', `route replace ${block('b')} via ${address('b')} dev tunl0 onlink mtu 1400`);
  hosts.ip('a', ...Array.from({ length: 2_000 }, (_, i) => route('replace', i, i + 1)));
  hosts.ip('a', route('replace', ROUTES - 1, 7));
  const changedMs = performance.now();
  // The answer comes when the change is in force.
  expect((await hosts.status('a'))?.lastChange?.what).toMatch(/by 10\.7\.0\.7$/);
  expect(performance.now() - changedMs).toBeLessThan(5_000);
  await ended;
  expect(answered(text, 400), text.slice(-200)).toBe(400);
  const { entries, overruns, dumps } = (await hosts.status('a'))!;
  expect({ entries, overruns, dumps }).toEqual({ entries: ROUTES + 1, overruns: 0, dumps: 1 });
  const resident = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${status.pid}/status`, 'utf8'))?.[1];
  expect(Number(resident) / 1024, 'MB resident').toBeLessThan(250);
});

test('what is missed while the process stands still is made good by a new dump', async () => {
  const { pid, dumps } = (await hosts.status('a'))!;
  process.kill(pid, 'SIGSTOP');
  try {
    // More than the socket's buffer holds.
    const changes = Array.from(
      { length: 40_000 },
      (_, i) => [i % ROUTES, i + 2 + Math.floor(i / ROUTES)] as const,
    );
    hosts.ip('a', ...changes.map(([i, hop]) => route('replace', i, hop)));
  } finally {
    process.kill(pid, 'SIGCONT');
  }
  const status = (await hosts.status('a'))!;
  expect(status.overruns).toBeGreaterThan(0);
  expect(status.dumps).toBeGreaterThan(dumps);
  expect(status.entries).toBe(ROUTES + 1);
  hosts.ip('b', 'addr add 11.0.0.1/32 dev lo');
  hosts.ip('a', `route add 11.0.0.1/32 via ${address('b')} dev tunl0 onlink`);
  expect((await hosts.status('a'))?.lastChange?.what).toMatch(/^11\.0\.0\.1\/32/);
  expect(hosts.ping('a', '11.0.0.1', '-c', '3')).toContain('3 received');
});
