/** The fast path in real agents, with no more privileges than they keep: on at both ends, and on at one end only. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { AgentStatus } from '../../src/agent/status.ts';
import { LABS, labUnavailable, MAIN, runCommand, TestLab } from '../helpers/lab.ts';
import { answered, pingSteadily } from '../helpers/ping.ts';

const ROOT = join(import.meta.dirname, '../..');
const lab = new TestLab('fast');
const pool = (mode: string) => readFileSync(join(ROOT, `examples/pools/${mode}.yaml`), 'utf8');

async function status(node: string): Promise<AgentStatus> {
  const env = { ...process.env, TORTIE_RUN_DIR: `${LABS}/${lab.name}/nodes/${node}` };
  const ran = await runCommand(process.execPath, [MAIN, 'node', 'status', '--name', node, '--json'], { env });
  return JSON.parse(ran.stdout) as AgentStatus;
}

describe.skipIf(labUnavailable)('fast path', () => {
  beforeAll(() => lab.up(join(ROOT, 'test/fixtures/fast-path-lab.yaml')));
  afterAll(() => lab.down());

  test('verify is as the resources demand, and the fast path has carried it', async () => {
    const result = await lab.verify();
    expect(result.forms).toEqual(
      Object.fromEntries(
        ['w1>w3', 'w1>w4', 'w3>w1', 'w3>w4', 'w4>w1', 'w4>w3'].map((pair) => [pair, 'encapsulated']),
      ),
    );
    expect(result.status).toBe(0);
    for (const node of ['node1', 'node3']) {
      const { fastPath, counters } = await status(node);
      expect(fastPath).toEqual({ outbound: null, inbound: null });
      expect(counters.outbound_note_fast_packets).toBeGreaterThan(0);
      expect(counters.inbound_note_fast_packets).toBeGreaterThan(0);
    }
    const slow = await status('node4');
    expect(slow.fastPath.outbound).toContain('--fast-path off');
    expect(slow.counters).not.toHaveProperty('outbound_note_fast_packets');
  });

  test('a flip of the mode under traffic loses nothing', async () => {
    const ping = lab.inside('w3', pingSteadily(150, 0.02, 'w4'));
    for (const mode of ['cross-subnet', 'always', 'cross-subnet', 'always'])
      await lab.succeed(['apply', '-f', '-'], pool(mode));
    const { stdout } = await ping;
    expect(answered(stdout, 150), stdout.slice(-200)).toBe(150);
  });
});
