/**
 * The lab on three real etcd members: what killing one, the leader, and all of them does to the agents.
 * The outage lasts 20 seconds here and five minutes in scripts/soak (TORTIE_TEST_OUTAGE_MS).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { poll, systemClock } from '../../src/base/clock.ts';
import { LABS, labUnavailable, runCommand, TestLab } from '../helpers/lab.ts';
import { pingSteadily, unanswered } from '../helpers/ping.ts';

const EXAMPLES = join(import.meta.dirname, '../../examples');
const OUTAGE_MS = Number(process.env.TORTIE_TEST_OUTAGE_MS ?? 20_000);
const MEMBERS = ['etcd1', 'etcd2', 'etcd3'] as const;

const lab = new TestLab('etcd');
const page = (mode: string) => readFileSync(join(EXAMPLES, `pools/${mode}.yaml`), 'utf8');
const apply = (mode: string) => lab.succeed(['apply', '-f', '-'], page(mode));

const pidIn = (file: string) => Number(readFileSync(join(LABS, lab.name, file), 'utf8').split(' ')[0]);
const killMember = (member: string) => process.kill(pidIn(`etcd/${member}.pid`), 'SIGKILL');
const agents = () => [1, 2, 3, 4].map((n) => pidIn(`nodes/node${n}/agent.pid`));

/** From this machine, by the environment that `lab env` prints. */
async function etcdctl(...words: string[]): Promise<string> {
  const ran = await runCommand('etcdctl', words, { env: { ...lab.env, ETCDCTL_API: '3' } });
  if (ran.status !== 0) throw new Error(`etcdctl ${words.join(' ')}: ${ran.stderr}${ran.stdout}`);
  return ran.stdout;
}

/** The member that leads, once there is one: one that has just come back may still be electing. */
async function leader(): Promise<string> {
  const found = await poll(systemClock, 20_000, 100, async () => {
    const rows: { Endpoint: string; Status: { leader: number; header: { member_id: number } } }[] =
      JSON.parse(await etcdctl('endpoint', 'status', '-w', 'json'));
    const leading = rows.find(({ Status }) => Status.leader === Status.header.member_id);
    return leading && MEMBERS[Number(leading.Endpoint.match(/\.1(\d):/)?.[1]) - 1];
  });
  if (found === undefined) throw new Error('no member of etcd leads');
  return found;
}

const routesOfNode1 = async () =>
  (await runCommand('ip', ['-n', lab.namespace('node1'), 'route', 'show', 'proto', '84'])).stdout;

/** w2's block by the tunnel device, or past it. */
function routedBy(routes: string): string | undefined {
  return routes.match(/via 10\.0\.1\.12 dev (\w+)/)?.[1];
}

/** Which of the pings of so long a time were lost, by their numbers. */
async function lostPings(seconds: number): Promise<number[]> {
  const count = seconds * 20;
  const words = ['netns', 'exec', lab.namespace('w1'), ...pingSteadily(count, 0.05, addressOfW3)];
  const ran = await runCommand('ip', words, { timeout: seconds * 2000 + 60_000 });
  return unanswered(ran.stdout, count);
}
let addressOfW3 = '';

describe.skipIf(labUnavailable)(`two-az-etcd${labUnavailable ? ` (${labUnavailable})` : ''}`, () => {
  beforeAll(async () => {
    await lab.up(join(EXAMPLES, 'two-az-etcd.yaml'));
    const printed = await lab.succeed(['lab', 'env']);
    for (const [, name, value] of printed.matchAll(/^export (\w+)=(.*)$/gm)) lab.env[name!] = value;
    const { pairs } = await lab.verify();
    addressOfW3 = pairs.find(({ to }) => to === 'w3')!.toAddress!;
  });
  afterAll(() => lab.down());

  test('verified, by members that this machine reaches and that are not in the fabric', async () => {
    expect(lab.env.TORTIE_DATASTORE).toMatch(/^etcd:\/\/198\.1[89]\./);
    expect((await lab.verify()).status).toBe(0);
    expect(await etcdctl('get', '--prefix', '/calico/resources/v3', '--keys-only')).toContain(
      '/calico/resources/v3/projectcalico.org/nodes/node4',
    );
    const fabric = await lab.inside('fabric', ['ls', '/sys/class/net']);
    expect(fabric.stdout).not.toMatch(/etcd|mgmt/);
  });

  test('an object written with etcdctl in the form of calicoctl is obeyed', async () => {
    await apply('always');
    const key = (
      await etcdctl('get', '--prefix', '/calico/resources/v3/projectcalico.org/ippools/', '--keys-only')
    ).trim();
    const value = await etcdctl('get', key, '--print-value-only');
    await etcdctl('put', key, value.trim().replace('"ipipMode":"Always"', '"ipipMode":"CrossSubnet"'));
    const result = await lab.verify();
    expect(result.forms).toMatchObject({ 'w1>w2': 'direct', 'w1>w3': 'encapsulated' });
    expect(result.status).toBe(0);
  });

  test.each([
    'any member',
    'the leader',
  ])('%s killed: changes go on, no agent ends, traffic flows', async (which) => {
    const before = agents();
    const victim = which === 'the leader' ? await leader() : 'etcd2';
    const traffic = lostPings(8);
    killMember(victim);
    await apply(which === 'the leader' ? 'cross-subnet' : 'always');
    const result = await lab.verify();
    expect(result.forms).toMatchObject({
      'w1>w2': which === 'the leader' ? 'direct' : 'encapsulated',
      'w1>w3': 'encapsulated',
    });
    expect(result.status).toBe(0);
    expect(await traffic).toEqual([]);
    await lab.up(join(EXAMPLES, 'two-az-etcd.yaml')); // brings the member back, and nothing else
    expect(agents()).toEqual(before);
  });

  test(
    'all killed for a while: traffic flows; a change made after their return is applied within 2 s',
    async () => {
      await apply('cross-subnet');
      expect((await lab.verify()).status).toBe(0);
      const before = agents();
      const traffic = lostPings(OUTAGE_MS / 1000);
      for (const member of MEMBERS) killMember(member);
      expect(await traffic).toEqual([]);
      expect(routedBy(await routesOfNode1())).toBe('eth0');
      const status = JSON.parse((await lab.inside('node1', [process.execPath, '-e', STATUS])).stdout);
      expect(status.warnings.join('\n')).toMatch(/datastore/);

      await lab.up(join(EXAMPLES, 'two-az-etcd.yaml'));
      expect(agents()).toEqual(before);
      await apply('always');
      const changed = await poll(systemClock, 2_000, 20, async () =>
        routedBy(await routesOfNode1()) === 'tunl0' ? true : undefined,
      );
      expect(changed).toBe(true);
      expect((await lab.verify()).status).toBe(0);
    },
    2 * OUTAGE_MS + 120_000,
  );
});

/** What the agent's socket says, from inside its node. */
const STATUS = `
require('http').get({ socketPath: process.env.TORTIE_RUN_DIR + '/node-node1.sock', path: '/v1/status' }, (response) => response.pipe(process.stdout));
`;
