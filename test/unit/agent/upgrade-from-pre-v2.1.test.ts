/** Nodes from before Calico v2.1 have no subnet: who is told, and the three ways of mending that the page refers to. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parseAgentOptions } from '../../../src/agent/options.ts';
import { register } from '../../../src/agent/registration.ts';
import { systemClock } from '../../../src/base/clock.ts';
import { formatPrefix } from '../../../src/ip/prefix.ts';
import { hostFacts, node } from '../../helpers/cluster.ts';
import { MemoryStore } from '../../helpers/memory-store.ts';
import { inProcessClient } from '../../helpers/recordings.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'tortie-upgrade-'));
});
afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

const tortie = (line: string, stdin = '') => inProcessClient(line.split(' '), stdin, `file://${root}`);
const nodeManifest = (address: string) =>
  `{"apiVersion":"v1","kind":"node","metadata":{"name":"node1"},"spec":{"bgp":{"ipv4Address":"${address}"}}}`;
const pool = (mode: string) =>
  `{"apiVersion":"v1","kind":"ipPool","metadata":{"cidr":"192.168.0.0/16"},"spec":{"ipip":{"enabled":true,"mode":"${mode}"}}}`;

test('a cross-subnet pool is stored, and the nodes without a subnet are named on stderr', async () => {
  await tortie('apply -f -', nodeManifest('10.0.2.10/32'));
  expect((await tortie('apply -f -', pool('always'))).stderr).toBe('');
  const warned = await tortie('apply -f -', pool('cross-subnet'));
  expect(warned).toMatchObject({ exit: 0, stdout: "Successfully applied 1 'ipPool' resource(s)\n" });
  expect(warned.stderr).toMatch(/^Warning: .*node1 \(10\.0\.2\.10\/32\)/);
  expect(warned.stderr).toContain('tortie node check');
  // The third way: the Node resource itself.
  await tortie('apply -f -', nodeManifest('10.0.2.10/24'));
  expect((await tortie('apply -f -', pool('cross-subnet'))).stderr).toBe('');
});

/** What an agent that starts with these flags and this environment makes of a stored /32. */
async function startedWith(flags: Parameters<typeof parseAgentOptions>[0], env: NodeJS.ProcessEnv) {
  const store = new MemoryStore();
  const [key, value] = node('node1', '10.0.1.11/32');
  await store.create(key, value);
  const logger = { debug() {}, info() {}, warn() {}, error() {} };
  const { address } = await register({
    store,
    options: parseAgentOptions({ name: 'node1', ...flags }, { NO_DEFAULT_POOLS: 'true', ...env }),
    facts: hostFacts('10.0.1.11/24'),
    clock: systemClock,
    logger,
    signal: new AbortController().signal,
    listNodes: async () => [],
    takeDevice: async () => undefined,
  });
  const stored = JSON.parse((await store.get(key))!.value).spec.bgp.ipv4Address;
  expect(stored).toBe(formatPrefix(address));
  return stored;
}

test('the first way: detected anew at start; the second: given; neither: it stays', async () => {
  expect(await startedWith({}, { IP: 'autodetect' })).toBe('10.0.1.11/24');
  expect(await startedWith({ ip: 'autodetect' }, {})).toBe('10.0.1.11/24');
  expect(await startedWith({}, { IP: '10.0.1.11/24' })).toBe('10.0.1.11/24');
  // Given without a length: looked up on the interfaces.
  expect(await startedWith({ ip: '10.0.1.11' }, {})).toBe('10.0.1.11/24');
  expect(await startedWith({}, {})).toBe('10.0.1.11/32');
});
