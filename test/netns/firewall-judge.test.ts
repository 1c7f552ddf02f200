/** What a judge holds of a change of the firewall while it is not read yet: a reading that we end, over real messages of the kernel. */
import { execFileSync } from 'node:child_process';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { FirewallJudge, type FirewallJudgeOptions } from '../../src/agent/firewall-judge.ts';
import type { OuterFirewall } from '../../src/host/outer-firewall.ts';
import { inNetworkNamespace, namedNetworkNamespace } from '../../src/io/netns.ts';
import { ipv4 } from '../../src/ip/ipv4.ts';
import { eventually } from '../helpers/small-cloud.ts';

const namespace = `tortie-t${process.pid}-fj`;
const free: OuterFirewall = { outbound: null, inbound: null };
const own = { outbound: [ipv4('10.0.1.11')], inbound: [] };
const opened: FirewallJudge[] = [];

beforeAll(() => void execFileSync('ip', ['netns', 'add', namespace], { timeout: 10_000 }));
afterEach(() => {
  for (const judge of opened.splice(0)) judge.close();
});
afterAll(() => void execFileSync('ip', ['netns', 'del', namespace], { timeout: 10_000 }));

const nft = (...words: string[]) =>
  execFileSync('ip', ['netns', 'exec', namespace, 'nft', ...words], { timeout: 10_000 });

/** Its readings end when the test says so, each with a verdict. */
function judge(unread: FirewallJudgeOptions['unread'], known: boolean) {
  const readings: ((verdict: OuterFirewall) => void)[] = [];
  const made = new FirewallJudge({
    firewall: () => new Promise((resolve) => readings.push(resolve)),
    enter: (fn) => inNetworkNamespace(namedNetworkNamespace(namespace), fn),
    ...(known ? { first: { verdict: free, own } } : {}),
    unread,
    onVerdict: () => {},
  });
  opened.push(made);
  return { made, readings };
}
const read = (readings: readonly unknown[], times: number) =>
  eventually(`reading ${times} has begun`, async () => readings.length === times || undefined);

test('a change that is not read yet forbids, or the verdict before it stands', async () => {
  const [strict, patient] = [judge('forbids', true), judge('stands', true)];
  nft('add', 'table', 'ip', 'one');
  await Promise.all([read(strict.readings, 1), read(patient.readings, 1)]);
  expect([strict.made.isUnread, patient.made.isUnread]).toEqual([true, false]);
  expect(patient.made.verdict).toEqual(free);
  const forbidden = { outbound: 'a chain', inbound: null };
  for (const { made, readings } of [strict, patient]) {
    readings[0]!(forbidden);
    await eventually('the verdict is there', async () => made.verdict.outbound === 'a chain' || undefined);
  }
});

test('what changes while the firewall is read is read again before anything is allowed', async () => {
  const { made, readings } = judge('forbids', false);
  expect(made.isUnread).toBe(true);
  made.setOwn(own);
  expect(readings.length).toBe(1);
  // Whoever is not busy reads at last, having heard at the same time.
  const witness = judge('stands', true);
  nft('add', 'table', 'ip', 'two');
  await read(witness.readings, 1);
  readings[0]!(free);
  await read(readings, 2);
  expect(made.isUnread).toBe(true);
  readings[1]!(free);
  await eventually('it is allowed', async () => made.verdict.outbound === null || undefined);
});

test('addresses that change while the firewall is read are asked about before anything is allowed', async () => {
  const { made, readings } = judge('stands', false);
  made.setOwn(own);
  made.setOwn({ ...own, outbound: [ipv4('10.0.1.12')] });
  readings[0]!(free);
  await read(readings, 2);
  expect(made.isUnread).toBe(true);
  readings[1]!(free);
  await eventually('it is allowed', async () => made.verdict.outbound === null || undefined);
});
