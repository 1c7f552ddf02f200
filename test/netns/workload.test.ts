/** `tortie workload attach|detach` on real namespaces: one for the node, one for each workload. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { pingAtOnce } from '../helpers/ping.ts';

const MAIN = join(import.meta.dirname, '../../dist/cli/main.js');
const ID = `tortie-t${process.pid}`;
const HOST = `${ID}-host`;
const POOL = `apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: pool}
spec: {cidr: 192.168.0.0/26, blockSize: 28, ipipMode: Always}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: node1}
spec: {bgp: {ipv4Address: 10.0.1.11/24}}
`;

const made: string[] = [];
let directory: string;

function ip(...words: string[]): string {
  return execFileSync('ip', words, { encoding: 'utf8', timeout: 10_000, stdio: ['ignore', 'pipe', 'pipe'] });
}

function namespace(name: string): string {
  ip('netns', 'add', name);
  made.push(name);
  return name;
}

interface Result {
  status: number | null;
  stdout: string;
  stderr: string;
}

function tortieIn(where: readonly string[], ...words: string[]): Result {
  const env = { PATH: process.env.PATH, NODENAME: 'node1', TORTIE_DATASTORE: `file://${directory}` };
  const [program = '', ...rest] = [...where, process.execPath, MAIN, ...words];
  return spawnSync(program, rest, { env, encoding: 'utf8', timeout: 30_000, input: POOL });
}

/** On the node, as the lab runs it. */
function tortie(...words: string[]): Result {
  return tortieIn(['ip', 'netns', 'exec', HOST], ...words);
}

function attach(name: string, ...more: string[]): { address: string; interface: string; mtu: number } {
  const result = tortie('workload', 'attach', name, '--netns', `${ID}-${name}`, '--json', ...more);
  expect(result).toMatchObject({ status: 0, stderr: '' });
  return JSON.parse(result.stdout);
}

function links(where: string): string {
  return ip('-n', where, '-br', 'link');
}

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'tortie-workload-'));
  namespace(HOST);
  ip('-n', HOST, 'tuntap', 'add', 'dev', 'tunl0', 'mode', 'tun');
  ip('-n', HOST, 'link', 'set', 'tunl0', 'mtu', '1430', 'up');
  // The kernel answers ARP for 169.254.1.1 only where it has a route there: a node's default route.
  ip('-n', HOST, 'route', 'add', 'default', 'dev', 'tunl0');
  for (const name of ['w1', 'w2', 'w3']) namespace(`${ID}-${name}`);
  expect(tortie('apply', '-f', '-').status).toBe(0);
});

afterAll(() => {
  for (const name of made) ip('netns', 'delete', name);
  rmSync(directory, { recursive: true, force: true });
});

test('attach: a /32, a default route by proxy ARP, and an endpoint as Calico writes it', () => {
  const { address, interface: device, mtu } = attach('w1');
  expect(device).toMatch(/^cali[0-9a-f]{11}$/);
  expect(mtu).toBe(1430);
  expect(ip('-n', `${ID}-w1`, '-br', '-4', 'address', 'show', 'dev', 'eth0')).toContain(`${address}/32`);
  expect(ip('-n', `${ID}-w1`, 'route').trim().split(/ *\n/)).toEqual([
    'default via 169.254.1.1 dev eth0 onlink',
    '169.254.1.1 dev eth0 scope link',
  ]);
  expect(ip('-n', HOST, 'link', 'show', device)).toMatch(/mtu 1430 .*state UP/);
  for (const [name, value] of [
    [`conf/${device}/proxy_arp`, '1'],
    [`conf/${device}/rp_filter`, '1'],
    [`conf/${device}/forwarding`, '1'],
    [`neigh/${device}/proxy_delay`, '0'],
  ])
    expect(ip('netns', 'exec', HOST, 'cat', `/proc/sys/net/ipv4/${name}`).trim()).toBe(value);
  const key = 'calico/resources/v3/projectcalico.org/workloadendpoints/default/node1-cni-w1-eth0';
  expect(JSON.parse(readFileSync(join(directory, key), 'utf8'))).toMatchObject({
    kind: 'WorkloadEndpoint',
    metadata: {
      name: 'node1-cni-w1-eth0',
      namespace: 'default',
      labels: { 'projectcalico.org/namespace': 'default', 'projectcalico.org/orchestrator': 'cni' },
    },
    spec: {
      ...{ orchestrator: 'cni', node: 'node1', containerID: 'w1', endpoint: 'eth0' },
      ...{ ipNetworks: [`${address}/32`], interfaceName: device },
    },
  });
});

test('two workloads reach each other through the host, which answers for 169.254.1.1', () => {
  const ends = [attach('w1'), attach('w2')];
  // The agent's part.
  for (const { address, interface: device } of ends)
    ip('-n', HOST, 'route', 'replace', address, 'dev', device, 'scope', 'link');
  ip('netns', 'exec', `${ID}-w1`, ...pingAtOnce('-c', '2', ends[1]?.address ?? ''));
});

test('attaching again changes nothing, and mends what was broken', () => {
  const first = attach('w1');
  ip('-n', `${ID}-w1`, 'route', 'delete', 'default');
  expect(attach('w1')).toEqual(first);
  expect(ip('-n', `${ID}-w1`, 'route')).toContain('default via 169.254.1.1');
  ip('-n', HOST, 'link', 'delete', first.interface);
  expect(attach('w1')).toEqual(first);
  expect(links(`${ID}-w1`)).toContain('eth0');
  expect(tortie('ipam', 'check')).toMatchObject({ status: 0 });
});

test('an address by name; refused where it is taken, outside of pools, or not the one attached', () => {
  expect(attach('w3', '--ip', '192.168.0.50').address).toBe('192.168.0.50');
  const again = tortie('workload', 'attach', 'w3', '--netns', `${ID}-w3`, '--ip', '192.168.0.51');
  expect(again).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('is attached to node1 with 192.168.0.50'),
  });
  const other = namespace(`${ID}-w4`);
  const taken = tortie('workload', 'attach', 'w4', '--netns', other, '--ip', '192.168.0.50');
  expect(taken).toMatchObject({ status: 1, stderr: expect.stringContaining('192.168.0.50 is in use by') });
  const outside = tortie('workload', 'attach', 'w4', '--netns', other, '--ip', '203.0.113.9');
  expect(outside).toMatchObject({ status: 3, stderr: expect.stringContaining('is in no enabled IP pool') });
});

test('what fails leaves nothing behind', () => {
  const before = links(HOST);
  const blocked = namespace(`${ID}-w5`);
  ip('-n', blocked, 'tuntap', 'add', 'dev', 'eth0', 'mode', 'tun');
  expect(tortie('workload', 'attach', 'w5', '--netns', blocked)).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('has an interface eth0 already'),
  });
  expect(tortie('workload', 'attach', 'w5', '--netns', 'tortie-none')).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('there is no network namespace tortie-none'),
  });
  expect(tortie('workload', 'attach', 'w5', '--netns', HOST)).toMatchObject({
    status: 3,
    stderr: expect.stringContaining('is the network namespace of the node itself'),
  });
  expect(links(HOST)).toBe(before);
  expect(tortie('ipam', 'check')).toMatchObject({ status: 0 });
});

test('without privilege: exit 4, and what is needed', () => {
  const other = namespace(`${ID}-w6`);
  const bare = ['setpriv', '--bounding-set=-all', '--inh-caps=-all'];
  expect(tortieIn(bare, 'workload', 'attach', 'w6', '--netns', other)).toMatchObject({
    status: 4,
    stderr: expect.stringMatching(/CAP_NET_ADMIN.*\n.*run as root/),
  });
});

test('detach takes away link, endpoint and address, also where half is gone; then there is none', () => {
  const { interface: device } = attach('w2');
  ip('-n', HOST, 'link', 'delete', device);
  expect(tortie('workload', 'detach', 'w2')).toMatchObject({ status: 0, stderr: '' });
  for (const name of ['w1', 'w3']) expect(tortie('workload', 'detach', name).status).toBe(0);
  expect(links(HOST)).not.toContain('cali');
  expect(tortie('get', 'workloadendpoints', '-o', 'json').stdout).toContain('"items": []');
  expect(tortie('ipam', 'show').stdout).toContain('0 (0%)');
  expect(tortie('workload', 'detach', 'w2')).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('there is no workload w2 on node node1'),
  });
});
