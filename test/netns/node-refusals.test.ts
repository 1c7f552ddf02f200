/** What stops an agent before it starts: exit 4, what is missing, what mends it. One namespace with one address. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { MAIN } from '../helpers/small-cloud.ts';

const NAMESPACE = `tortie-t${process.pid}-refuse`;
const directory = mkdtempSync(join(tmpdir(), 'tortie-refuse-'));

const ip = (...words: string[]) => execFileSync('ip', words, { timeout: 10_000 });

beforeAll(() => {
  ip('netns', 'add', NAMESPACE);
  ip('-n', NAMESPACE, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth0-peer');
  ip('-n', NAMESPACE, 'address', 'add', '10.0.1.11/24', 'dev', 'eth0');
  ip('-n', NAMESPACE, 'link', 'set', 'eth0', 'up');
});

afterAll(() => {
  ip('netns', 'del', NAMESPACE);
  rmSync(directory, { recursive: true, force: true });
});

/** Runs `tortie node run` behind other words (setpriv, unshare), which must end by itself. */
function attempt(before: string[], words: string[] = [], env: NodeJS.ProcessEnv = {}) {
  const command = [process.execPath, MAIN, 'node', 'run', '--name', 'node1'];
  const store = ['--datastore', `file://${join(directory, 'store')}`];
  const { status, stderr } = spawnSync(
    'ip',
    ['netns', 'exec', NAMESPACE, ...before, ...command, ...store, ...words],
    {
      encoding: 'utf8',
      timeout: 30_000,
      env: { ...process.env, TORTIE_RUN_DIR: join(directory, 'run'), ...env },
    },
  );
  return { status, stderr };
}

test('/dev/net/tun is missing', () => {
  const hidden = ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs none /dev/net && exec "$@"', 'sh'];
  const { status, stderr } = attempt(hidden);
  expect(stderr).toMatch(/\/dev\/net\/tun/);
  expect(status).toBe(4);
});

test.each(['net_admin', 'net_raw'])('the capability %s is missing', (name) => {
  const { status, stderr } = attempt(['setpriv', `--bounding-set=-${name}`]);
  expect(stderr).toMatch(new RegExp(`CAP_${name}`, 'i'));
  expect(status).toBe(4);
  // A node that cannot forward is not announced to the others.
  expect(existsSync(join(directory, 'store/calico'))).toBe(false);
});

test('nft is not installed', () => {
  const bin = mkdtempSync(join(directory, 'bin-'));
  symlinkSync(execFileSync('sh', ['-c', 'command -v ip'], { encoding: 'utf8' }).trim(), join(bin, 'ip'));
  const { status, stderr } = attempt(['env', `PATH=${bin}`]);
  expect(stderr).toMatch(/`nft` is not installed\napt-get install nftables/);
  expect(status).toBe(4);
});

test('the name of the device is taken by a device of the kernel', () => {
  ip('-n', NAMESPACE, 'link', 'add', 'tunl7', 'type', 'bridge');
  const { status, stderr } = attempt([], ['--device', 'tunl7']);
  expect(stderr).toMatch(/tunl7/);
  expect(status).toBe(4);
});

test('no interface has an address that may be taken', () => {
  const { status, stderr } = attempt(
    [],
    ['--name', 'fresh', '--ip-autodetection-method', 'cidr=203.0.113.0/24'],
  );
  expect(stderr).toMatch(/Couldn't autodetect .* the host has: .*eth0 10\.0\.1\.11\/24/);
  expect(status).toBe(4);
});

test('a usage error is exit 2', () => {
  const { status, stderr } = attempt([], ['--mtu', 'big']);
  expect(stderr).toMatch(/--mtu: expected a whole number/);
  expect(status).toBe(2);
});

test('told to stop while it waits for the datastore, it stops without a complaint', async () => {
  const store = ['--datastore', 'etcd://127.0.0.1:1'];
  const words = [MAIN, 'node', 'run', '--name', 'node1', ...store];
  const agent = spawn('ip', ['netns', 'exec', NAMESPACE, process.execPath, ...words], {
    env: { ...process.env, TORTIE_RUN_DIR: join(directory, 'run') },
    timeout: 30_000,
  });
  let said = '';
  for (const stream of [agent.stdout, agent.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      const waited = said.includes('waiting for the datastore');
      said += text;
      // Once: a second one ends it at once.
      if (!waited && said.includes('waiting for the datastore')) agent.kill('SIGTERM');
    });
  const status = await new Promise((resolve) => agent.once('close', resolve));
  expect(said).toContain('waiting for the datastore');
  expect(said).not.toContain('at process');
  expect(status).toBe(0);
});
