/** What the cluster does to an agent: held still, a node deleted, metrics asked for, a host that drops forwarding. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { resourceKey } from '../../src/model/keys.ts';
import { API_VERSION } from '../../src/model/resources.ts';
import type { KeyValue } from '../helpers/cluster.ts';
import { pingAtOnce } from '../helpers/ping.ts';
import { inProcessClient } from '../helpers/recordings.ts';
import { blockOf, eventually, MAIN, SmallCloud, workloadAddress } from '../helpers/small-cloud.ts';

const cloud = new SmallCloud();
const AGENTS = ['node1', 'node3'] as const;

beforeAll(async () => {
  cloud.up();
  await cloud.seed('Always');
  for (const name of AGENTS) cloud.startAgent(name, '--metrics', '9099');
  for (const name of AGENTS)
    await eventually(`${name} runs`, async () =>
      (await cloud.status(name))?.state === 'running' ? true : undefined,
    );
});

afterAll(async () => {
  await cloud.down();
});

const ready = (datastoreReady: boolean): KeyValue => [
  resourceKey('ClusterInformation', 'default'),
  JSON.stringify({
    kind: 'ClusterInformation',
    apiVersion: API_VERSION,
    metadata: { name: 'default' },
    spec: { datastoreReady },
  }),
];
const routeToNode3 = () => cloud.routes('node1').find((line) => line.startsWith(blockOf('node3')));
const ENCAPSULATED = `${blockOf('node3')} via 10.0.2.11 dev tunl0 onlink`;
const PLAIN = `${blockOf('node3')} via 10.0.1.1 dev eth0`;

test('while datastoreReady is false the agents hold still; then all that waited happens', async () => {
  await cloud.put(ready(false));
  await eventually('node1 says that it holds still', async () =>
    (await cloud.status('node1'))?.warnings.some((line) => line.includes('datastoreReady: false'))
      ? true
      : undefined,
  );
  await cloud.setMode('Never');
  await systemClock.sleep(500); // sleeps: nothing is to happen meanwhile
  expect(routeToNode3()).toBe(ENCAPSULATED);
  cloud.run('w1', ...pingAtOnce('-c', '2', workloadAddress('node3')));
  await cloud.put(ready(true));
  await eventually('the pool is obeyed', async () => (routeToNode3() === PLAIN ? true : undefined));
  await cloud.inForce(await cloud.setMode('Always'), AGENTS);
});

test('Prometheus gets the counters under their names', async () => {
  const script = "fetch('http://127.0.0.1:9099/metrics').then((r) => r.text()).then(console.log)";
  const text = cloud.run('node1', process.execPath, '-e', script);
  expect(text).toMatch(/^tortie_agent_state\{state="running"\} 1$/m);
  expect(text).toMatch(/^tortie_table_size\{table="entries"\} 2$/m);
  expect(text).toMatch(/^tortie_peer_outbound_packets\{peer="10\.0\.2\.11"\} [1-9]\d*$/m);
  expect(text).toMatch(/^# TYPE tortie_outbound_\w+ counter$/m);
});

test('node check names the chain that drops what is forwarded', () => {
  const chain =
    'add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }';
  cloud.run('node1', 'nft', chain);
  try {
    const store = ['--datastore', cloud.store.url];
    const text = cloud.run('node1', process.execPath, MAIN, 'node', 'check', '--json', ...store);
    const { ok, host } = JSON.parse(text);
    expect(ok).toBe(true);
    expect(host).toContainEqual(
      expect.objectContaining({
        level: 'warn',
        subject: 'forward policy',
        text: expect.stringContaining('ip filter FORWARD'),
        mend: expect.stringContaining('-j ACCEPT'),
      }),
    );
  } finally {
    cloud.run('node1', 'nft', 'delete table ip filter');
  }
});

test('a deleted node gives back what it held, and the others drop their routes to it', async () => {
  expect(routeToNode3()).toBe(ENCAPSULATED);
  const seen = await inProcessClient(['delete', 'node', 'node3'], '', cloud.store.url);
  expect(seen).toMatchObject({ exit: 0, stdout: "Successfully deleted 1 'Node' resource(s)\n" });
  await eventually('node1 has no route to it', async () => (routeToNode3() ? undefined : true));
  const keys = (await cloud.store.list('/calico/ipam/')).entries.map((entry) => entry.key);
  expect(keys.filter((key) => key.includes('192.168.30.0') || key.includes('node3'))).toEqual([]);
});
