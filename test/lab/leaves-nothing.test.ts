/**
 * `lab down` leaves the machine as it was before `up`, however the lab ended. Each case runs in mounts,
 * processes and a network of its own, so that what is compared is all there is, and nobody else's work shows.
 */
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { labUnavailable, MAIN, runCommand } from '../helpers/lab.ts';

const EXAMPLES = join(import.meta.dirname, '../../examples');
const TORTIE = `${process.execPath} ${MAIN}`;

/** What is compared: namespaces, links, rules, processes (zombies of this very script are none), mounts, files of ours. */
const STATE = `
state() {
  ip netns list
  ip -o link | cut -d: -f2 | cut -d@ -f1
  nft list ruleset
  ps -eo pid=,args= | grep -vE ' (\\[|(ps|grep|sed|bash|sh|cut|sort|awk)( |$))' | sed 's/^ *[0-9]* //' | sort
  awk '{print $5}' /proc/self/mountinfo
  find /run/tortie /run/netns /etc/netns 2>/dev/null
  true
}
`;

/** Runs the steps between two looks at the machine; gives both, and what the steps said. */
async function around(steps: string): Promise<{ before: string; after: string; log: string }> {
  const script = `
set -u
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /etc/netns 2>/dev/null || true
${STATE}
state > /run/before
{ ${steps}
} > /run/log 2>&1 < /dev/null
state > /run/after
printf '%s\\0%s\\0%s' "$(cat /run/before)" "$(cat /run/after)" "$(cat /run/log)"
`;
  const isolated = ['--mount', '--net', '--pid', '--fork', '--mount-proc', '--kill-child'];
  const ran = await runCommand('unshare', [...isolated, 'bash', '-c', script]);
  const [before = '', after = '', log = ''] = ran.stdout.split('\0');
  if (ran.status !== 0 || !before) throw new Error(`the steps did not run: ${ran.stderr}`);
  return { before, after, log };
}

describe.skipIf(labUnavailable)(`leaves nothing${labUnavailable ? ` (${labUnavailable})` : ''}`, () => {
  test('up and down', async () => {
    const { before, after, log } = await around(`
      ${TORTIE} lab up --name gone; ip netns list | grep -c tortie-gone-; ${TORTIE} lab down gone`);
    expect(log).toContain('\n11\n');
    expect(after).toBe(before);
  });

  test('up and down on etcd, one member killed', async () => {
    const { before, after, log } = await around(`
      ${TORTIE} lab up ${EXAMPLES}/two-az-etcd.yaml --name gone; ip -o link | grep -c ' tm-'
      read -r pid _ < /run/tortie/labs/gone/etcd/etcd1.pid; kill -9 "$pid"; ${TORTIE} lab down gone`);
    expect(log).toMatch(/^1$/m);
    expect(after).toBe(before);
  });

  test('every agent killed with -9, then down', async () => {
    const { before, after, log } = await around(`
      ${TORTIE} lab up --name gone
      for file in /run/tortie/labs/gone/nodes/*/agent.pid; do
        read -r pid _ < "$file"; kill -9 "$pid" && echo killed
      done
      ${TORTIE} lab down gone`);
    expect(log.match(/^killed$/gm)).toHaveLength(4);
    expect(after).toBe(before);
  });

  // At each of these moments something else exists: the record, namespaces, agents, workloads.
  test.each([0.25, 0.6, 1.2, 2.2])('up killed with -9 after %d s, then down', async (seconds) => {
    const { before, after, log } = await around(`
      ${TORTIE} lab up --name gone & up=$!
      sleep ${seconds}; kill -9 $up; wait $up; echo status $?
      ${TORTIE} lab down gone`);
    expect(log).toMatch(/status (137|0)/);
    expect(after).toBe(before);
  });

  test('state lost: down still finds what carries the name', async () => {
    const { before, after } = await around(`
      ${TORTIE} lab up --name gone; rm -rf /run/tortie; ${TORTIE} lab down gone; umount /run/netns; rmdir /run/netns`);
    expect(after).toBe(before);
  });

  test('down twice, and down of nothing, change nothing', async () => {
    const { before, after, log } = await around(
      `${TORTIE} lab down gone; ${TORTIE} lab down gone; echo status $?`,
    );
    expect(log).toContain('there was nothing of a lab gone');
    expect(log).toContain('status 0');
    expect(after).toBe(before);
  });

  test('two labs at once, one down: the other is untouched', async () => {
    const { before, after, log } = await around(`
      ${TORTIE} lab up --name one & ${TORTIE} lab up --name one-more & wait
      ${TORTIE} lab down one
      ip netns list | grep -c tortie-one-more-
      ${TORTIE} lab verify --lab one-more --json > /dev/null && echo verified
      ${TORTIE} lab down one-more`);
    expect(log).toContain('\n11\n');
    expect(log).toContain('\nverified\n');
    expect(after).toBe(before);
  });
});
