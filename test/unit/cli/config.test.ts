/** `config` in calicoctl v1's words, on v3's resources. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { inProcessClient } from '../../helpers/recordings.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'tortie-config-'));
});
afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

const config = (line: string) => inProcessClient(['config', ...line.split(' ')], '', `file://${root}/store`);
const spec = (key: string) =>
  JSON.parse(readFileSync(`${root}/store/calico/resources/v3/projectcalico.org/${key}`, 'utf8')).spec;
const silent = { exit: 0, stdout: '', stderr: '' };

test('defaults, where nothing is set', async () => {
  const words = { asNumber: '64512', nodeToNodeMesh: 'on', ipip: 'off', logLevel: 'info' };
  for (const [name, value] of Object.entries(words))
    expect(await config(`get ${name}`)).toEqual({ ...silent, stdout: `${value}\n` });
});

test('set is silent, get prints it, unset brings the default back', async () => {
  const settings = [
    ['asNumber', '64513', '64512', 'bgpconfigurations/default', { asNumber: 64513 }],
    ['nodeToNodeMesh', 'off', 'on', 'bgpconfigurations/default', { nodeToNodeMeshEnabled: false }],
    ['ipip', 'on', 'off', 'felixconfigurations/default', { ipipEnabled: true }],
    ['logLevel', 'critical', 'info', 'felixconfigurations/default', { logSeverityScreen: 'Fatal' }],
  ] as const;
  for (const [name, value, byDefault, key, stored] of settings) {
    expect(await config(`set ${name} ${value}`)).toEqual(silent);
    expect(spec(key)).toEqual(stored);
    expect((await config(`get ${name}`)).stdout).toBe(`${value}\n`);
    expect(await config(`unset ${name}`)).toEqual(silent);
    expect(spec(key)).toEqual({});
    expect((await config(`get ${name}`)).stdout).toBe(`${byDefault}\n`);
  }
});

test("the page's MTU, raw; a node's own, and what it inherits", async () => {
  expect((await config('get --raw=felix IpInIpMtu')).stdout).toBe('(unset)\n');
  expect(await config('set --raw=felix IpInIpMtu 1480')).toEqual(silent);
  expect(spec('felixconfigurations/default')).toEqual({ ipipMTU: 1480 });
  expect((await config('get --raw=felix IpInIpMtu')).stdout).toBe('1480\n');
  await config('set --raw=felix --node=node1 IpInIpMtu 1400');
  expect(spec('felixconfigurations/node.node1')).toEqual({ ipipMTU: 1400 });
  await config('set logLevel debug');
  expect((await config('get logLevel --node=node1')).stdout).toBe('debug (inherited from global)\n');
  await config('set logLevel error --node=node1');
  expect((await config('get logLevel --node=node1')).stdout).toBe('error\n');
});

test('misuse, in their words', async () => {
  const refused = {
    'set colour red': "unrecognised config name 'colour'",
    'set ipip perhaps': "invalid value 'perhaps'",
    'set asNumber 70000000000': 'the supplied AS number is not valid',
    'set ipip on --node=node1': '--node should not be specified',
    'set logLevel loud': "invalid value 'loud'",
  };
  for (const [line, reason] of Object.entries(refused)) {
    const seen = await config(line);
    expect(seen.exit).toBe(2);
    expect(seen.stderr).toBe(`Error executing command: ${reason}\n`);
  }
  const seen = await config('set --raw=felix IpInIpMtu large');
  expect(seen.exit).toBe(3);
  expect(seen.stderr).toMatch(/^Error executing command: .*ipipMTU/s);
});
