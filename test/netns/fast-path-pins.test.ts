/** `--pin`: forwarding goes on without the process, a restart loses nothing, and what is left is found and taken away. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { MAPS } from '../../src/ebpf/layout.ts';
import { Bpf } from '../../src/io/bpf.ts';
import { systemCalls } from '../../src/io/libc.ts';
import { unanswered } from '../helpers/ping.ts';
import { MAIN } from '../helpers/small-cloud.ts';
import { address, inner, TunnelHosts, type TunnelProcess } from '../helpers/tunnel-hosts.ts';

const hosts = new TunnelHosts('tp');
/** Not /sys/fs/bpf: `ip netns exec` hides the host's, and what is pinned in its own ends with the command. */
const bpf = join(hosts.directory, 'bpf');
const pins = join(bpf, 'tortie');
process.env.TORTIE_BPF_DIR = pins;

const flags = (host: 'a' | 'b') => ['--local', address(host), '--fast-path', 'ebpf', '--pin'];
let a: TunnelProcess;

beforeAll(async () => {
  mkdirSync(bpf);
  execFileSync('mount', ['-t', 'bpf', 'bpf', bpf], { timeout: 10_000 });
  hosts.up();
  [a] = await Promise.all([hosts.serve('a', ...flags('a')), hosts.serve('b', ...flags('b'))]);
  hosts.configure('a', 'b');
  hosts.configure('b', 'a');
  await hosts.until('a', 'its route is in force', (s) => s.entries === 1);
  await hosts.until('b', 'its route is in force', (s) => s.entries === 1);
});
afterAll(async () => {
  execFileSync('umount', ['-l', bpf], { timeout: 10_000 });
  delete process.env.TORTIE_BPF_DIR;
  await hosts.down();
});

/** Pings every millisecond until it is asked for what it saw. */
function pinging(): { end(): Promise<{ sent: number; lost: number[] }> } {
  const words = ['netns', 'exec', hosts.namespace('a'), 'ping', '-i', '0.001', '-W', '2', inner('b')];
  const child = spawn('ip', words, { stdio: ['ignore', 'pipe', 'inherit'], timeout: 60_000 });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (more) => {
    text += more;
  });
  return {
    async end() {
      child.kill('SIGINT');
      await once(child, 'close');
      const sent = Number(/(\d+) packets transmitted/.exec(text)?.[1]);
      // The last ones may have been on their way when ping was ended.
      return { sent, lost: unanswered(text, sent - 100) };
    },
  };
}

async function stop(tunnel: TunnelProcess): Promise<void> {
  tunnel.process.kill('SIGTERM');
  expect(await tunnel.ended).toBe(0);
}

const check = () =>
  hosts.run(
    'a',
    'sh',
    '-c',
    `"${process.execPath}" "${MAIN}" node check --datastore file://${hosts.directory}/none || true`,
  );

test('a planned restart of one end loses no packet, nor does the time between', async () => {
  const ping = pinging();
  await stop(a);
  expect(hosts.ping('a', inner('b'), '-c', '20')).toContain('20 received');
  expect(check()).toMatch(
    /WARN +pins: .*-tunl0: the fast path of tunl0 goes on by the routes of when its agent stopped/,
  );
  a = await hosts.serve('a', ...flags('a'));
  const status = await hosts.until('a', 'its route is in force', (s) => s.entries === 1);
  expect(status.fastPath).toEqual({ outbound: null, inbound: null });
  expect(hosts.ping('a', inner('b'), '-c', '20')).toContain('20 received');
  const { sent, lost } = await ping.end();
  expect(sent).toBeGreaterThan(200);
  expect(lost).toEqual([]);
  expect(check()).not.toContain('pins:');
  expect(await hosts.gaps()).toEqual({});
});

test('killed, and another version started whose maps are others: its programs go on until ours are laid, nothing is lost', async () => {
  const ping = pinging();
  a.process.kill('SIGKILL');
  await a.ended;
  // A map of the same name and another shape, which is what is there after a change of the layout.
  const own = hosts.run('a', 'sh', '-c', `echo ${pins}/$(stat -L -c %i /proc/self/ns/net)-tunl0`).trim();
  const map = readdirSync(own).find((name) => name.endsWith('map-peers'))!;
  unlinkSync(join(own, map));
  const calls = new Bpf();
  const other = calls.createMap('peers', { ...MAPS.peers, valueBytes: MAPS.peers.valueBytes + 4 });
  calls.pin(other, join(own, map));
  systemCalls().close(other);
  expect(hosts.ping('a', inner('b'), '-c', '20')).toContain('20 received');
  a = await hosts.serve('a', ...flags('a'));
  const { counters } = await hosts.until('a', 'its route is in force', (s) => s.entries === 1);
  const { sent, lost } = await ping.end();
  expect(sent).toBeGreaterThan(200);
  expect(lost).toEqual([]);
  expect(hosts.ping('a', inner('b'), '-c', '20')).toContain('20 received');
  const after = (await hosts.status('a'))!;
  expect(after.fastPath).toEqual({ outbound: null, inbound: null });
  for (const counter of ['outbound_note_fast_packets', 'inbound_note_fast_packets'])
    expect(after.counters[counter]! - counters[counter]!).toBeGreaterThanOrEqual(20);
  // It is ours now, and taken over as such.
  await stop(a);
  a = await hosts.serve('a', ...flags('a'));
  const status = await hosts.until('a', 'its route is in force', (s) => s.entries === 1);
  expect(status.counters.outbound_note_fast_packets).toBeGreaterThanOrEqual(
    after.counters.outbound_note_fast_packets!,
  );
});

test('a route that went while nobody looked is gone from the maps at the next start', async () => {
  await stop(a);
  hosts.ip('a', `route del 192.168.2.0/26`);
  a = await hosts.serve('a', ...flags('a'));
  const before = await hosts.until('a', 'no route', (s) => s.entries === 0);
  hosts.ip('a', `route add 192.168.2.0/26 dev lo`, `route del 192.168.2.0/26 dev lo`);
  hosts.ip('a', `route add 192.168.9.0/26 via ${address('b')} dev tunl0 onlink`);
  await hosts.until('a', 'another route', (s) => s.entries === 1);
  // By hand into the device: the old block's entry must not lead to the old peer any more.
  hosts.ip('a', 'route add 192.168.2.1/32 dev tunl0');
  hosts.ping('a', '192.168.2.1', '-c', '3');
  const fast = (await hosts.status('a'))!.counters.outbound_note_fast_packets;
  expect(fast).toBe(before.counters.outbound_note_fast_packets);
  hosts.ip('a', 'route del 192.168.2.1/32 dev tunl0', 'route del 192.168.9.0/26');
  hosts.configure('a', 'b');
  await hosts.until('a', 'its route is back', (s) => s.entries === 1);
});

test('a firewall that forbids it while only pins forward: the next start goes around nothing', async () => {
  const nft = (text: string) => hosts.run('a', 'nft', text);
  await stop(a);
  nft('add table ip guard; add chain ip guard in { type filter hook input priority 0; }');
  nft('add rule ip guard in ip protocol 4 drop');
  // Nobody looks: the pins go on by what they know.
  expect(hosts.ping('a', inner('b'), '-c', '3')).toContain('3 received');
  a = await hosts.serve('a', '--local', address('a'), '--fast-path', 'auto', '--pin');
  const status = await hosts.until('a', 'its route is in force', (s) => s.entries === 1);
  const chain = "the firewall's chain ip guard in has a say about it";
  expect(status.fastPath).toEqual({ outbound: null, inbound: chain });
  expect(hosts.ping('a', inner('b'), '-c', '1', '-w', '1')).toContain(' 0 received');
  await stop(a);
  const refused = hosts.start('a', ...flags('a'));
  expect(await refused.ended).toBe(4);
  expect(refused.log()).toContain("--fast-path ebpf would go around the firewall's chain ip guard in");
  // Its pins are gone with it: b's are left.
  expect(readdirSync(pins)).toHaveLength(1);
  nft('delete table ip guard');
  a = await hosts.serve('a', ...flags('a'));
  await hosts.until('a', 'its route is in force', (s) => s.entries === 1);
  expect(hosts.ping('a', inner('b'), '-c', '3')).toContain('3 received');
});

test('killed, and started without --pin: what was pinned is taken away, and nothing forwards beside the new one', async () => {
  a.process.kill('SIGKILL');
  await a.ended;
  expect(hosts.ping('a', inner('b'), '-c', '5')).toContain('5 received');
  const own = readdirSync(pins);
  expect(own).toHaveLength(2);
  a = await hosts.serve('a', '--local', address('a'));
  await hosts.until('a', 'its route is in force', (s) => s.entries === 1);
  expect(readdirSync(pins)).toHaveLength(1);
  expect(hosts.ping('a', inner('b'), '-c', '5')).toContain('5 received');
  expect(await hosts.gaps()).toEqual({});
  expect((await hosts.status('a'))!.counters.outbound_out_underlay_packets).toBe(5);
});

test('--cleanup takes away what is pinned; without a bpf file system --pin exits with 4', async () => {
  const said = hosts.run('b', 'sh', '-c', `"${process.execPath}" "${MAIN}" tunnel run --cleanup 2>&1`);
  expect(said).toMatch(/^Removed \d+ pins of the fast path\n$/);
  expect(existsSync(pins) && readdirSync(pins)).toEqual([]);
  process.env.TORTIE_BPF_DIR = join(hosts.directory, 'no-bpf/tortie');
  const refused = hosts.start('c', '--local', address('c'), '--fast-path', 'auto', '--pin');
  expect(await refused.ended).toBe(4);
  expect(refused.log()).toContain('mount -t bpf bpf');
  process.env.TORTIE_BPF_DIR = pins;
});
