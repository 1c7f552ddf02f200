/** What `lab capture` writes is read back by tcpdump; each fault of `lab fault` is seen on packets, listed, and mended. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { poll, systemClock } from '../../src/base/clock.ts';
import { readPcapng } from '../../src/wire/pcapng.ts';
import { labUnavailable, runCommand, TestLab } from '../helpers/lab.ts';
import { pingSteadily } from '../helpers/ping.ts';

const lab = new TestLab('look');
const directory = mkdtempSync(join(tmpdir(), 'tortie-capture-'));

const ping = async (from: string, to: string) =>
  (await lab.inside(from, ['ping', '-c', '1', '-W', '1', to])).status === 0;
/** A link that is up again has its carrier, and a thawed agent its turn, a moment later. */
const reached = (from: string, to: string) =>
  poll(systemClock, 10_000, 50, async () => (await ping(from, to)) || undefined);
const fault = (...words: string[]) => lab.run(['lab', 'fault', ...words]);
const faults = () => lab.succeed(['lab', 'fault']);

describe.skipIf(labUnavailable)(`capture and fault${labUnavailable ? ` (${labUnavailable})` : ''}`, () => {
  beforeAll(() => lab.up());
  afterAll(async () => {
    await lab.down();
    rmSync(directory, { recursive: true, force: true });
  });

  test('a capture has the same request where it was sent, in the tunnel and on the fabric', async () => {
    const file = join(directory, 'three.pcapng');
    const places = ['w1', 'node1:tunl0', 'fabric:node1'];
    const capture = lab.run(['lab', 'capture', ...places, '--write', file, '--seconds', '6']);
    const pinging = await lab.inside('w1', pingSteadily(50, 0.1, 'w3'));
    expect(pinging.status).toBe(0);
    expect((await capture).status).toBe(0);

    const read = readPcapng(readFileSync(file));
    if (!read.ok) throw new Error(read.problem);
    expect(read.file.interfaces.map(({ name }) => name)).toEqual(['w1:eth0', 'node1:tunl0', 'fabric:node1']);
    expect(new Set(read.file.packets.map(({ interfaceIndex }) => interfaceIndex))).toEqual(
      new Set([0, 1, 2]),
    );
    const times = read.file.packets.map(({ timestampNs }) => timestampNs);
    expect(times.every((time) => time > 1_000_000_000_000_000_000n)).toBe(true);
    // Linktypes differ: tcpdump reads a file of one; the fabric's ports and the workloads are Ethernet.
    const ethernet = join(directory, 'ethernet.pcapng');
    // A ping is eight packets at these places, and the first may begin in the middle of one.
    const second = lab.run(['lab', 'capture', '-w', ethernet, '--count', '24']);
    await lab.inside('w1', ['ping', '-c', '30', '-i', '0.1', '-W', '2', 'w3']);
    expect((await second).stderr).toMatch(/^24 packets written/m);
    const told = await runCommand('tcpdump', ['-nr', ethernet]);
    expect(told.stdout).toMatch(/IP 10\.0\.1\.11 > 10\.0\.2\.11: IP 192\.168\..*ICMP echo request/);
  });

  test('a place that is not there is refused', async () => {
    const wrong = await lab.run(['lab', 'capture', '-w', '-', 'nowhere']);
    expect([wrong.status, wrong.stderr]).toEqual([2, expect.stringContaining('has no host "nowhere"')]);
    const bare = await lab.run(['lab', 'capture', '-w', '-', 'fabric']);
    expect([bare.status, bare.stderr]).toEqual([2, expect.stringContaining('expected fabric:NODE')]);
  });

  test("a node's link, a zone's, the internet's: down, listed, up", async () => {
    await fault('link-down', 'node2');
    await fault('link-down', 'az-b');
    await fault('link-down', 'internet');
    expect(await faults()).toBe(
      'the link of node2 is down\nthe link of az-b is down\nthe link of internet is down\n',
    );
    expect(await ping('w1', 'w2')).toBe(false);
    expect(await ping('w1', 'w3')).toBe(false);
    expect(await reached('w3', 'w4')).toBe(true); // within the zone
    await fault('link-up', 'node2');
    expect(await reached('w1', 'w2')).toBe(true);
    await lab.up(); // mends what is left
    expect(await faults()).toBe('');
    expect((await lab.verify()).status).toBe(0);
  });

  test('an agent frozen and killed: packets of the frozen one wait, `up` starts the killed one', async () => {
    expect((await fault('freeze', 'node3')).status).toBe(0);
    expect(await faults()).toBe('the agent of node3 stands still\n');
    expect(await ping('w1', 'w3')).toBe(false);
    await fault('thaw', 'node3');
    expect(await reached('w1', 'w3')).toBe(true);
    await fault('kill', 'node3');
    expect(await faults()).toBe('the agent of node3 does not run\n');
    await lab.up();
    expect(await faults()).toBe('');
    expect((await lab.verify()).status).toBe(0);
  });

  test('what makes no sense exits 2 and says what would', async () => {
    const target = await fault('kill', 'w1');
    expect([target.status, target.stderr]).toEqual([
      2,
      expect.stringContaining('node1, node2, node3, node4'),
    ]);
    const action = await fault('burn', 'node1');
    expect([action.status, action.stderr]).toEqual([2, expect.stringContaining('link-down, link-up, kill')]);
  });
});
