/** The unit and the DaemonSet of examples/: what they start is understood, and they ask for no more than is needed. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';

const ROOT = join(import.meta.dirname, '../..');
const MAIN = join(ROOT, 'dist/cli/main.js');
const read = (name: string) => readFileSync(join(ROOT, 'examples', name), 'utf8');

/** Exits 0 where command and flags are known. */
const understands = (words: readonly string[]) =>
  execFileSync(process.execPath, [MAIN, ...words, '--help'], { encoding: 'utf8', timeout: 20_000 });

test('the systemd unit', () => {
  const unit = read('systemd/tortie-tunnel.service');
  const value = (key: string) => new RegExp(`^${key}=(.*)$`, 'm').exec(unit)?.[1] ?? '';
  expect(understands(value('ExecStart').split(' ').slice(1))).toContain('serve the device');
  const asked = /tortie (tunnel status [^>]*?) >/.exec(value('ExecStartPost'))?.[1] ?? '';
  expect(understands(asked.split(' '))).toContain('what the process that serves the device does');
  expect(value('Before').split(' ')).toEqual(
    expect.arrayContaining(['calico-node.service', 'kubelet.service']),
  );
  expect(value('CapabilityBoundingSet')).toBe('CAP_NET_ADMIN CAP_NET_RAW');
});

test('the DaemonSet', () => {
  const { kind, spec } = parse(read('kubernetes/tortie-tunnel.yaml'));
  const pod = spec.template.spec;
  const [container] = pod.containers;
  expect(kind).toBe('DaemonSet');
  expect(pod.hostNetwork).toBe(true);
  expect(container.securityContext.capabilities).toEqual({ drop: ['ALL'], add: ['NET_ADMIN', 'NET_RAW'] });
  expect(container.securityContext.privileged).toBeUndefined();
  expect(understands(container.args)).toContain('serve the device');
  expect(understands(container.readinessProbe.exec.command.slice(1))).toContain('serves the device');
  expect(pod.volumes.map((volume: { hostPath: { path: string } }) => volume.hostPath.path)).toEqual([
    '/dev/net/tun',
    '/run/tortie',
  ]);
});
