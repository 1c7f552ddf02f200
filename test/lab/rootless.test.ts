/**
 * A lab of somebody who is not root, and has nothing but a /dev/net/tun that is open to all. Each case runs as a user
 * that exists nowhere, in mounts of its own, where that device is a copy.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { labUnavailable, runCommand } from '../helpers/lab.ts';

const ROOT = join(import.meta.dirname, '../..');
const USER = 54_321;

/** As root: what the user has; then the steps as the user; then what is left of it. */
async function asUser(steps: string, tunMode = '666'): Promise<{ status: number; out: string; log: string }> {
  const script = `
set -eu
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/dev /mnt/run /mnt/tortie
mknod /mnt/dev/tun c 10 200; chmod ${tunMode} /mnt/dev/tun; mount --bind /mnt/dev/tun /dev/net/tun
mount --bind "$1" /mnt/tortie
chown ${USER}:${USER} /mnt/run; chmod 700 /mnt/run
export XDG_RUNTIME_DIR=/mnt/run HOME=/mnt/run
cd /mnt/tortie
status=0
setpriv --reuid ${USER} --regid ${USER} --clear-groups --inh-caps=-all --bounding-set=-all \\
  bash -c 'tortie() { "$NODE" dist/cli/main.js "$@"; }; '"$2" || status=$?
echo "left:" $(find /mnt/run -mindepth 1)
echo "running:" $(ps -o args= -u ${USER} | grep -v defunct)
exit $status
`;
  const isolated = ['--mount', '--pid', '--fork', '--mount-proc', '--kill-child'];
  const ran = await runCommand('unshare', [...isolated, 'bash', '-c', script, 'bash', ROOT, steps], {
    env: { PATH: process.env.PATH, NODE: process.execPath, ETCDCTL_API: '3' },
  });
  return { status: ran.status, out: ran.stdout, log: ran.stderr };
}

const NOTHING_LEFT = /^left:\nrunning:$/m;

/** A kernel, a container or a chroot may refuse user namespaces to whom they are for. */
function rootlessUnavailable(): string | undefined {
  if (labUnavailable) return labUnavailable;
  const asNobody = ['--reuid', String(USER), '--regid', String(USER), '--clear-groups'];
  const words = [...asNobody, 'unshare', '--user', '--map-root-user', 'true'];
  const { status, stderr } = spawnSync('setpriv', words, { encoding: 'utf8', timeout: 10_000 });
  return status === 0 ? undefined : `user namespaces are refused here: ${stderr.trim()}`;
}

const unavailable = rootlessUnavailable();

describe.skipIf(unavailable)(`rootless${unavailable ? ` (${unavailable})` : ''}`, () => {
  test("Calico's page, from up to down; the datastore works outside; nothing is left", async () => {
    const { status, out, log } = await asUser(`
      set -e
      tortie lab up
      tortie lab list
      eval "$(tortie lab env)"
      tortie get nodes -o name
      tortie lab verify --json > /mnt/run/always.json
      tortie apply -f examples/pools/cross-subnet.yaml
      tortie lab verify | tail -n 1
      tortie lab exec w1 -- ping -c 1 -W 5 w3 > /mnt/run/ping && echo pinged
      tortie lab exec node1 -- sh -c "exit 7" || echo status $?
      rm /mnt/run/always.json /mnt/run/ping
      tortie lab down`);
    expect(log).toMatch(/two-az is up after/);
    expect(status).toBe(0);
    expect(out).toMatch(/^two-az +vpc +2 +4 +4\/4 +4$/m);
    expect(out).toContain('two-az: all 12 pairs are as the resources demand: 4 direct, 8 encapsulated');
    expect(out).toMatch(/^pinged\nstatus 7$/m);
    expect(out).toMatch(NOTHING_LEFT);
  });

  test('on etcd, whose members a shell outside reaches by a relay on loopback', async () => {
    const { status, out, log } = await asUser(`
      set -e
      tortie lab up examples/two-az-etcd.yaml
      eval "$(tortie lab env)"
      echo "$TORTIE_DATASTORE"
      tortie apply -f examples/pools/cross-subnet.yaml
      etcdctl get --prefix /calico/resources/v3/projectcalico.org/nodes/ --keys-only
      tortie lab verify | tail -n 1
      tortie lab down`);
    expect(log).toMatch(/two-az-etcd is up after/);
    expect(status).toBe(0);
    expect(out).toMatch(/^etcd:\/\/127\.0\.0\.1:\d+,127\.0\.0\.1:\d+,127\.0\.0\.1:\d+$/m);
    expect(out).toContain('/calico/resources/v3/projectcalico.org/nodes/node4');
    expect(out).toContain('all 12 pairs are as the resources demand: 4 direct, 8 encapsulated');
    expect(out).toMatch(NOTHING_LEFT);
  });

  test('the holder killed: up makes the lab anew, down leaves nothing', async () => {
    const { status, out, log } = await asUser(`
      set -e
      tortie lab up
      read -r pid _ < /mnt/run/tortie/labs/.holder.pid; kill -9 $pid
      tortie lab up
      tortie lab verify | tail -n 1
      read -r pid _ < /mnt/run/tortie/labs/.holder.pid; kill -9 $pid
      tortie lab down`);
    expect(log).toContain('11 namespaces (11 new)');
    expect(out).toContain('two-az: all 12 pairs are as the resources demand');
    expect(status).toBe(0);
    expect(out).toMatch(NOTHING_LEFT);
  });

  test.each([
    ['a closed /dev/net/tun', '600', 'tortie lab up', 'sudo chmod 666 /dev/net/tun'],
    ['no place for the state', '666', 'unset XDG_RUNTIME_DIR; tortie lab up', 'export XDG_RUNTIME_DIR='],
  ])('%s: exit 4 and the command that mends it', async (_, mode, steps, hint) => {
    const { status, out, log } = await asUser(steps, mode);
    expect(log).toContain(hint);
    expect(status).toBe(4);
    expect(out).toMatch(NOTHING_LEFT);
  });
});
