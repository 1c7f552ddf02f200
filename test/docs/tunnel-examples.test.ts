/** The unit and the DaemonSet of examples/: what they start is understood, and they ask for no more than is needed. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
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
  expect(value('Type')).toBe('notify');
  expect(value('Before').split(' ')).toEqual(
    expect.arrayContaining(['calico-node.service', 'kubelet.service']),
  );
  expect(value('CapabilityBoundingSet')).toBe('CAP_NET_ADMIN CAP_NET_RAW');
});

test('the unit gave up after five failures, could not see a clone below /root, and forbade packet sockets', () => {
  // scripts/systemd-test boots it; this keeps what was found there where every run sees it.
  const unit = read('systemd/tortie-tunnel.service');
  expect(unit).toMatch(/^StartLimitIntervalSec=0$/m);
  expect(unit).toMatch(/^ProtectHome=read-only$/m);
  expect(unit).toMatch(/^RestrictAddressFamilies=.*\bAF_PACKET\b/m);
});

const SYSTEMD_ANALYZE = '/usr/bin/systemd-analyze';

test.skipIf(!existsSync(SYSTEMD_ANALYZE))('systemd itself finds nothing to say about the unit', () => {
  const directory = mkdtempSync(join(tmpdir(), 'tortie-unit-'));
  try {
    // It looks whether what the unit starts is there, and says what it ignores without failing for it.
    const unit = read('systemd/tortie-tunnel.service').replaceAll('/usr/local/bin/tortie', MAIN);
    const file = join(directory, 'tortie-tunnel.service');
    writeFileSync(file, unit);
    const verified = spawnSync(SYSTEMD_ANALYZE, ['verify', file], { encoding: 'utf8', timeout: 20_000 });
    expect([verified.status, verified.stdout + verified.stderr]).toEqual([0, '']);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
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
