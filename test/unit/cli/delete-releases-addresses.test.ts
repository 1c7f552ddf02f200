/** Deleting a pool or a node gives back what IPAM holds for it; the state is one that Calico's IPAM recorded. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { inProcessClient, readRecording } from '../../helpers/recordings.ts';

let root: string;

/** A pool, three nodes; node1 has a tunnel address and h1's two addresses, node2 one of h2. */
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'tortie-delete-'));
  for (const { put = {} } of readRecording('ipam.json').slice(0, 7))
    for (const [key, value] of Object.entries(put)) {
      mkdirSync(dirname(root + key), { recursive: true });
      writeFileSync(root + key, value);
    }
});

afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

const tortie = (line: string) => inProcessClient(line.split(' '), '', `file://${root}`);

const keysUnder = (key: string) =>
  existsSync(root + key)
    ? readdirSync(root + key, { recursive: true, encoding: 'utf8', withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => entry.name)
        .sort()
    : [];

const BLOCKS = '/calico/ipam/v2/assignment/ipv4/block';
const block = (name: string) => JSON.parse(readFileSync(`${root}${BLOCKS}/${name}`, 'utf8'));

test('a node takes its addresses and blocks along, the others keep theirs', async () => {
  expect(keysUnder(BLOCKS)).toEqual(['192.168.104.0-26', '192.168.166.128-26']);
  expect(await tortie('delete node node1')).toMatchObject({ exit: 0, stderr: '' });
  expect(keysUnder(BLOCKS)).toEqual(['192.168.104.0-26']);
  expect(keysUnder('/calico/ipam/v2/host/node1')).toEqual([]);
  expect(keysUnder('/calico/ipam/v2/handle')).toEqual(['h2']);
  expect(block('192.168.104.0-26').affinity).toBe('host:node2');
});

const RESOURCES = '/calico/resources/v3/projectcalico.org';

const manifest = (kind: string, name: string, spec: object) => ({ kind, metadata: { name }, spec });

test('delete-node-left-its-workloads-and-settings: they go with it, as with calicoctl; others of a like name stay', async () => {
  const workload = (node: string) =>
    manifest('WorkloadEndpoint', `${node.replaceAll('-', '--')}-cni-w1-eth0`, {
      ...{ node, orchestrator: 'cni', containerID: 'w1', endpoint: 'eth0', interfaceName: 'cali0' },
      ...{ ipNetworks: ['192.168.9.1/32'], profiles: [] },
    });
  const items = [
    manifest('Node', 'node1-b', { bgp: { ipv4Address: '10.0.1.99/24' } }),
    ...['node1', 'node1-b'].flatMap((node) => [
      workload(node),
      manifest('FelixConfiguration', `node.${node}`, { ipipMTU: 1400 }),
      manifest('BGPConfiguration', `node.${node}`, { logSeverityScreen: 'Info' }),
    ]),
  ].map((item) => ({ apiVersion: 'projectcalico.org/v3', ...item }));
  const file = join(root, '.manifest.json');
  writeFileSync(file, JSON.stringify({ kind: 'List', apiVersion: 'v1', items }));
  expect(await tortie(`apply -f ${file}`)).toMatchObject({ exit: 0, stderr: '' });
  expect((await tortie('delete node node1 --dry-run')).exit).toBe(0);
  expect(keysUnder(`${RESOURCES}/felixconfigurations`)).toEqual(['node.node1', 'node.node1-b']);
  expect(await tortie('delete node node1')).toMatchObject({ exit: 0, stderr: '' });
  expect(keysUnder(`${RESOURCES}/workloadendpoints`)).toEqual(['node1--b-cni-w1-eth0']);
  expect(keysUnder(`${RESOURCES}/felixconfigurations`)).toEqual(['node.node1-b']);
  expect(keysUnder(`${RESOURCES}/bgpconfigurations`)).toEqual(['node.node1-b']);
});

test('a pool takes the affinities, and leaves addresses in use', async () => {
  expect(await tortie('delete ippool 192.168.0.0/16')).toMatchObject({ exit: 0, stderr: '' });
  expect(keysUnder('/calico/ipam/v2/host')).toEqual([]);
  expect(block('192.168.166.128-26').affinity).toBeNull();
  expect(keysUnder('/calico/ipam/v2/handle')).toEqual(['h1', 'h2', 'ipip-tunnel-addr-node1']);
  expect((await tortie('get ippools -o name')).stdout).toBe('');
});

test('a dry run takes nothing', async () => {
  expect((await tortie('delete node node1 --dry-run')).exit).toBe(0);
  expect(keysUnder('/calico/ipam/v2/handle')).toEqual(['h1', 'h2', 'ipip-tunnel-addr-node1']);
});
