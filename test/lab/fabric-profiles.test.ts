/** Each profile lets through what docs/lab.md says: seen on real packets of real agents, three nodes in two zones. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { labUnavailable, TestLab } from '../helpers/lab.ts';

const EXAMPLES = join(import.meta.dirname, '../../examples');

const topology = (profile: string) => `
name: replaced
fabric: {profile: ${profile}}
zones: {a: {subnet: 10.7.1.0/24}, b: {subnet: 10.7.2.0/24}}
nodes: {n1: {zone: a}, n2: {zone: a}, n3: {zone: b}}
workloads: {w1: {node: n1}, w1b: {node: n1}, w2: {node: n2}, w3: {node: n3}}
manifests: [${join(EXAMPLES, 'pools/default.yaml')}]
`;

/** Neighbours by always, neighbours and strangers by cross-subnet, as w1 sees them; and the tunnel's MTU. */
const SEEN = {
  l2: ['encapsulated', 'direct', 'encapsulated', 1480],
  aws: ['encapsulated', 'dropped', 'encapsulated', 8981],
  gce: ['encapsulated', 'encapsulated', 'encapsulated', 1440],
  azure: ['dropped', 'dropped', 'dropped', 1480],
  openstack: ['encapsulated', 'dropped', 'encapsulated', 1430],
} as const;

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
      writeFileSync(file, topology(profile));
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
