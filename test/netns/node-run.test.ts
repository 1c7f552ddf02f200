/** Real agents on three nodes of two zones: routes, packets, flips, restarts, cleanup. Picture: small-cloud.ts. */
import { spawn } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { node } from '../helpers/cluster.ts';
import { answered, pingAtOnce, pingSteadily } from '../helpers/ping.ts';
import {
  type Agent,
  eventually,
  NODES,
  type NodeName,
  SmallCloud,
  workloadAddress,
} from '../helpers/small-cloud.ts';

const cloud = new SmallCloud();
const agents = new Map<NodeName, Agent>();

beforeAll(async () => {
  cloud.up();
  await cloud.seed('Always');
  for (const name of NODES) agents.set(name, cloud.startAgent(name));
  for (const name of NODES)
    await eventually(`${name} runs: ${agents.get(name)?.log()}`, async () =>
      (await cloud.status(name))?.state === 'running' ? true : undefined,
    );
});

afterAll(async () => {
  await cloud.down();
});

const ping = (from: string, to: string, ...words: string[]) =>
  cloud.run(from, ...pingAtOnce('-c', '2', ...words, to));

const OWN_10 = ['192.168.10.1 dev cali10 scope link', 'blackhole 192.168.10.0/26'];

describe('routes', () => {
  test('Always: all in the tunnel', async () => {
    await cloud.inForce(await cloud.setMode('Always'));
    expect(cloud.routes('node1').sort()).toEqual([
      OWN_10[0],
      '192.168.20.0/26 via 10.0.1.12 dev tunl0 onlink',
      '192.168.30.0/26 via 10.0.2.11 dev tunl0 onlink',
      OWN_10[1],
    ]);
    ping('w1', workloadAddress('node2'));
    ping('w1', workloadAddress('node3'));
    ping('w3', workloadAddress('node2'));
  });

  test('CrossSubnet: plain inside the zone', async () => {
    await cloud.inForce(await cloud.setMode('CrossSubnet'));
    expect(cloud.routes('node1').sort()).toEqual([
      OWN_10[0],
      '192.168.20.0/26 via 10.0.1.12 dev eth0',
      '192.168.30.0/26 via 10.0.2.11 dev tunl0 onlink',
      OWN_10[1],
    ]);
    expect(cloud.routes('node3')).toContain('192.168.10.0/26 via 10.0.1.11 dev tunl0 onlink');
    ping('w1', workloadAddress('node2'));
    ping('w1', workloadAddress('node3'));
  });

  test('Never: plain everywhere, by the router', async () => {
    await cloud.inForce(await cloud.setMode('Never'));
    expect(cloud.routes('node1').sort()).toEqual([
      OWN_10[0],
      '192.168.20.0/26 via 10.0.1.12 dev eth0',
      '192.168.30.0/26 via 10.0.1.1 dev eth0',
      OWN_10[1],
    ]);
    ping('w1', workloadAddress('node2'));
  });

  test('a node whose address becomes a /32 encapsulates to its neighbour, and stops when it is put back', async () => {
    await cloud.inForce(await cloud.setMode('CrossSubnet'));
    await cloud.inForce(await cloud.put(node('node1', '10.0.1.11/32', '192.168.10.0')));
    expect(cloud.routes('node1')).toContain('192.168.20.0/26 via 10.0.1.12 dev tunl0 onlink');
    expect(cloud.routes('node2')).toContain('192.168.10.0/26 via 10.0.1.11 dev eth0');
    expect((await cloud.status('node1'))?.warnings.join('\n')).toMatch(/the \/32 of 10\.0\.1\.11/);
    ping('w1', workloadAddress('node2'));
    await cloud.inForce(await cloud.put(node('node1', '10.0.1.11/24', '192.168.10.0')));
    expect(cloud.routes('node1')).toContain('192.168.20.0/26 via 10.0.1.12 dev eth0');
  });
});

test('ten flips under load lose no packet', async () => {
  const load = [workloadAddress('node2'), workloadAddress('node3')].map((to) => pingUnderLoad('w1', to, 300));
  let sent = '';
  for (let flip = 0; flip < 10; flip++) {
    sent = await cloud.setMode(flip % 2 ? 'CrossSubnet' : 'Always');
    await cloud.inForce(sent);
  }
  for (const output of await Promise.all(load)) expect(answered(output, 300), output.slice(-200)).toBe(300);
});

function pingUnderLoad(from: string, to: string, count: number): Promise<string> {
  const words = ['netns', 'exec', cloud.namespace(from), ...pingSteadily(count, 0.01, to)];
  const child = spawn('ip', words, { timeout: 60_000 });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    output += text;
  });
  return new Promise((resolve) => child.once('close', () => resolve(output)));
}

test('NAT: outside the pools a workload is seen with the address of its node; the host reaches remote workloads', async () => {
  await cloud.inForce(await cloud.setMode('Always'));
  const capture = spawn('ip', [
    ...['netns', 'exec', cloud.namespace('internet')],
    ...['tcpdump', '-l', '-n', '-i', 'eth0', '-c', '1', 'icmp[icmptype] = icmp-echo'],
  ]);
  let seen = '';
  capture.stdout.setEncoding('utf8').on('data', (text) => {
    seen += text;
  });
  await new Promise((resolve) => capture.stderr.once('data', resolve));
  ping('w1', '198.51.100.10');
  await new Promise((resolve) => capture.once('close', resolve));
  expect(seen).toMatch(/IP 10\.0\.1\.11 > 198\.51\.100\.10/);
  ping('node1', workloadAddress('node3'));
});

test('drift is put right: a route taken away, one that is not ours to have, the rules', async () => {
  await cloud.inForce(await cloud.setMode('Always'));
  cloud.run('node1', 'ip', 'route', 'del', '192.168.20.0/26');
  cloud.run('node1', 'ip', 'route', 'add', '192.168.99.0/26', 'via', '10.0.1.12', 'proto', '84');
  cloud.run('node1', 'nft', 'flush', 'table', 'ip', 'tortie');
  await eventually('node1 as before', async () => {
    const routes = cloud.routes('node1').join('\n');
    const rules = cloud.run('node1', 'nft', 'list', 'table', 'ip', 'tortie');
    const right =
      /192\.168\.20\.0/.test(routes) && !/192\.168\.99\.0/.test(routes) && /masquerade/.test(rules);
    return right || undefined;
  });
});

test("somebody else's route stays, and is named; ours comes back when it goes", async () => {
  const theirs = ['192.168.30.0/26', 'via', '10.0.1.12', 'proto', 'static'];
  cloud.run('node1', 'ip', 'route', 'replace', ...theirs);
  const degraded = await eventually('node1 complains', async () => {
    const status = await cloud.status('node1');
    return status?.state === 'degraded' ? status : undefined;
  });
  expect(degraded.warnings.join('\n')).toMatch(
    /a route of somebody else is there: 192\.168\.30\.0\/26 via 10\.0\.1\.12/,
  );
  expect(cloud.run('node1', 'ip', 'route', 'show', '192.168.30.0/26')).toMatch(/proto static/);
  cloud.run('node1', 'ip', 'route', 'del', ...theirs);
  await eventually('node1 runs again', async () =>
    (await cloud.status('node1'))?.state === 'running' ? true : undefined,
  );
  expect(cloud.routes('node1')).toContain('192.168.30.0/26 via 10.0.2.11 dev tunl0 onlink');
});

test('kill -9 leaves device and routes; the next agent resumes', async () => {
  const before = cloud.routes('node1');
  agents.get('node1')?.process.kill('SIGKILL');
  await agents.get('node1')?.ended;
  expect(cloud.run('node1', 'ip', 'link', 'show', 'tunl0')).toMatch(/tunl0/);
  // The device has no reader, hence no carrier; the routes by it stay.
  expect(cloud.routes('node1').map((line) => line.replace(' linkdown', ''))).toEqual(before);
  agents.set('node1', cloud.startAgent('node1'));
  await eventually('node1 forwards again', async () => {
    try {
      ping('w1', workloadAddress('node3'), '-W', '1');
      return true;
    } catch {
      return undefined;
    }
  });
  expect(cloud.routes('node1')).toEqual(before);
});

test('the device deleted: the same process makes it anew, and the routes with it', async () => {
  const before = cloud.routes('node1');
  const pid = (await cloud.status('node1'))?.pid;
  cloud.run('node1', 'ip', 'link', 'delete', 'tunl0');
  await eventually('node1 forwards again', async () => {
    try {
      ping('w1', workloadAddress('node3'), '-W', '1');
      return true;
    } catch {
      return undefined;
    }
  });
  expect(cloud.routes('node1')).toEqual(before);
  expect((await cloud.status('node1'))?.pid).toBe(pid);
});

test('a second agent of the node exits 4 and names the first', async () => {
  const second = cloud.startAgent('node1');
  expect(await second.ended).toBe(4);
  expect(second.log()).toMatch(/node node1 already has an agent on this host: pid \d+/);
});

test("another node's address is refused", async () => {
  const words = ['--name', 'node9', '--ip', '10.0.1.12/24'];
  const thief = cloud.startAgent('node1', ...words);
  expect(await thief.ended).toBe(4);
  expect(thief.log()).toMatch(/10\.0\.1\.12 is already in use by node node2/);
});

test('SIGTERM ends it cleanly and leaves the routes; --cleanup leaves nothing', async () => {
  const agent = agents.get('node2');
  agent?.process.kill('SIGTERM');
  expect(await agent?.ended).toBe(0);
  expect(cloud.routes('node2').length).toBeGreaterThan(0);
  const strictBefore = cloud.run('node2', 'sysctl', '-n', 'net.ipv4.ip_forward').trim();
  expect(strictBefore).toBe('1');
  const cleanup = cloud.startAgent('node2', '--cleanup');
  expect(await cleanup.ended).toBe(0);
  expect(cloud.routes('node2')).toEqual([]);
  expect(cloud.run('node2', 'nft', 'list', 'ruleset').trim()).toBe('');
  expect(cloud.run('node2', 'ip', '-o', 'link')).not.toMatch(/tunl0/);
  expect(cloud.run('node2', 'sysctl', '-n', 'net.ipv4.ip_forward').trim()).toBe('0');
});
