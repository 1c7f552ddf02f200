/** Every recorded session of the real client that is about resources, played against ours on the file datastore. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  type Client,
  fileStage,
  inProcessClient,
  playRecording,
  readRecording,
  SESSIONS,
  spawnedClient,
} from '../helpers/recordings.ts';

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'tortie-recording-'));
});

afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

describe('what calicoctl did, ours does', () => {
  test.each(SESSIONS)('%s', async (session) => {
    const steps = readRecording(`${session}.json`);
    expect(steps.length).toBeGreaterThan(5);
    expect(await playRecording(steps, inProcessClient, fileStage(root))).toEqual([]);
  });

  test('pool-order-and-columns, by the built program', { timeout: 120_000 }, async () => {
    expect(
      await playRecording(readRecording('pool-order-and-columns.json'), spawnedClient, fileStage(root)),
    ).toEqual([]);
  });
});

describe('the player sees differences', () => {
  const client: Client = async (argv, stdin, datastore) => {
    const seen = await inProcessClient(argv, stdin, datastore);
    return {
      ...seen,
      stdout: seen.stdout.replace('CIDR', 'cidr'),
      stderr: seen.stderr.replace('error', 'mistake'),
    };
  };

  test('in what is printed', async () => {
    const found = await playRecording(
      readRecording('pool-refused.json').slice(0, 3),
      client,
      fileStage(root),
    );
    expect(found.length).toBe(3);
  });

  test('in what is stored', async () => {
    const [apply] = readRecording('pool-order-and-columns.json');
    const altered = { ...apply, put: { ...apply?.put, '/calico/ipam/v2/config': '{}' } };
    expect((await playRecording([altered], inProcessClient, fileStage(root))).join()).toContain(
      '/calico/ipam/v2/config',
    );
  });
});
