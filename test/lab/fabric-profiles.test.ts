/** Each profile lets through what docs/lab.md says: seen on real packets of real agents, three nodes in two zones. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { VerifyPair } from '../../src/lab/verify.ts';
import { labUnavailable, MAIN, TestLab } from '../helpers/lab.ts';

const EXAMPLES = join(import.meta.dirname, '../../examples');

const topology = (fabric: string, agent = '{}') => `
name: replaced
fabric: {${fabric}}
zones: {a: {subnet: 10.7.1.0/24}, b: {subnet: 10.7.2.0/24}}
nodes: {n1: {zone: a}, n2: {zone: a}, n3: {zone: b}}
workloads: {w1: {node: n1}, w1b: {node: n1}, w2: {node: n2}, w3: {node: n3}}
manifests: [${join(EXAMPLES, 'pools/default.yaml')}]
agent: ${agent}
`;

/** Neighbours by always, neighbours and strangers by cross-subnet, as w1 sees them; and the tunnel's MTU. */
const SEEN = {
  l2: ['encapsulated', 'direct', 'encapsulated', 1480],
  aws: ['encapsulated', 'dropped', 'encapsulated', 8981],
  gce: ['encapsulated', 'encapsulated', 'encapsulated', 1440],
  azure: ['dropped', 'dropped', 'dropped', 1480],
  openstack: ['encapsulated', 'dropped', 'encapsulated', 1430],
  rules: ['dropped', 'direct', 'dropped', 1380],
} as const;

/** The profile of that name, but for this one. */
const FABRIC: Readonly<Record<string, string>> = {
  rules: 'profile: vpc, rules: {passesProtocol4: false}, mtu: 1400',
};

describe.skipIf(labUnavailable).sequential.each(Object.entries(SEEN))(
  `%s${labUnavailable ? ` (${labUnavailable})` : ''}`,
  (profile, [always, neighbours, strangers, mtu]) => {
    const lab = new TestLab(profile);
    const directory = mkdtempSync(join(tmpdir(), 'tortie-profile-'));
    afterAll(async () => {
      await lab.down();
      rmSync(directory, { recursive: true, force: true });
    });

    test('always and cross-subnet are carried, or not, as the profile says', async () => {
      const file = join(directory, 'topology.yaml');
      writeFileSync(file, topology(FABRIC[profile] ?? `profile: ${profile}`));
      await lab.up(file);

      const first = await lab.verify();
      expect(first.forms).toMatchObject({ 'w1>w1b': 'local', 'w1>w2': always });
      expect(first.status).toBe(0);

      await lab.succeed(
        ['apply', '-f', '-'],
        readFileSync(join(EXAMPLES, 'pools/cross-subnet.yaml'), 'utf8'),
      );
      const second = await lab.verify();
      expect(second.forms).toMatchObject({ 'w1>w1b': 'local', 'w1>w2': neighbours, 'w1>w3': strangers });
      expect(second.nat.map((row) => [row.reachable, row.observedSource])).toEqual(
        ['10.7.1.11', '10.7.1.11', '10.7.1.12', '10.7.2.11'].map((source) => [true, source]),
      );
      expect(second.status).toBe(0);

      const tunnel = await lab.inside('n1', ['cat', '/sys/class/net/tunl0/mtu']);
      expect(tunnel.stdout).toBe(`${mtu}\n`);
    });
  },
);

describe.skipIf(labUnavailable)(`the udp transport${labUnavailable ? ` (${labUnavailable})` : ''}`, () => {
  const lab = new TestLab('udp');
  const directory = mkdtempSync(join(tmpdir(), 'tortie-profile-'));
  const file = join(directory, 'topology.yaml');
  afterAll(async () => {
    await lab.down();
    rmSync(directory, { recursive: true, force: true });
  });
  const pairs = (rows: readonly VerifyPair[]) =>
    Object.fromEntries(rows.map((p) => [`${p.from}>${p.to}`, p.transport ?? p.observed]));

  test('crosses a fabric that drops protocol 4, with 28 bytes less than the link has', async () => {
    writeFileSync(file, topology('profile: azure', '{transport: udp}'));
    await lab.up(file);
    const result = await lab.verify();
    expect(result.status).toBe(0);
    expect(pairs(result.pairs)).toMatchObject({ 'w1>w1b': 'local', 'w1>w2': 'udp', 'w3>w1': 'udp' });
    expect((await lab.inside('n1', ['cat', '/sys/class/net/tunl0/mtu'])).stdout).toBe('1472\n');
  });
});

describe.skipIf(labUnavailable)(`a mixed cluster${labUnavailable ? ` (${labUnavailable})` : ''}`, () => {
  const lab = new TestLab('mixed');
  const directory = mkdtempSync(join(tmpdir(), 'tortie-profile-'));
  const file = join(directory, 'topology.yaml');
  afterAll(async () => {
    await lab.down();
    rmSync(directory, { recursive: true, force: true });
  });

  test('each pair speaks what both have, and one that has nothing in common is named', async () => {
    const nodes =
      'nodes: {n1: {zone: a, agent: {transport: udp}}, n2: {zone: a, agent: {transport: auto}}, n3: {zone: b}}';
    writeFileSync(file, topology('profile: l2').replace(/^nodes: .*$/m, nodes));
    await lab.up(file);
    const result = await lab.verify();
    expect(result.status).toBe(0);
    expect(
      Object.fromEntries(result.pairs.map((p) => [`${p.from}>${p.to}`, p.transport ?? p.observed])),
    ).toMatchObject({
      ...{ 'w1>w2': 'udp', 'w2>w1': 'udp', 'w2>w3': 'ipip', 'w3>w2': 'ipip' },
      ...{ 'w1>w3': 'dropped', 'w3>w1': 'dropped' },
    });
    for (const [node, other] of [
      ['n1', 'n3'],
      ['n3', 'n1'],
    ] as const) {
      const status = await lab.inside(node, [process.execPath, MAIN, 'node', 'status', '--name', node]);
      expect(status.stdout).toContain(`no transport in common with node ${other}`);
    }
    const check = await lab.inside('n2', [process.execPath, MAIN, 'node', 'check']);
    expect(check.status).toBe(1);
    expect(check.stdout).toContain('n1 and n3: have no transport in common');
  });
});
