/** The upkeep of IPAM on the file datastore; test/etcd plays the same on etcd. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { ipamUpkeep } from './ipam-upkeep.contract.ts';

let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'tortie-ipam-'));
});

afterAll(() => {
  rmSync(directory, { recursive: true, force: true });
});

ipamUpkeep('files', {
  url: () => `file://${directory}`,
  empty: () => {
    rmSync(directory, { recursive: true, force: true });
    mkdirSync(directory);
  },
});
