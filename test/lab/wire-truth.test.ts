/** What others see of our packets: tcpdump decodes them cleanly, and the inner packet arrives byte for byte. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { poll, systemClock } from '../../src/base/clock.ts';
import { type Capture, openCapture } from '../../src/io/capture.ts';
import { labUnavailable, runCommand, TestLab } from '../helpers/lab.ts';
import { pingAtOnce } from '../helpers/ping.ts';

const lab = new TestLab('wire');
const SIZES = [0, 1, 56, 511, 1000, 1452];

describe.skipIf(labUnavailable)(`on the wire${labUnavailable ? ` (${labUnavailable})` : ''}`, () => {
  const directory = mkdtempSync(join(tmpdir(), 'tortie-wire-'));
  beforeAll(() => lab.up());
  afterAll(async () => {
    await lab.down();
    rmSync(directory, { recursive: true, force: true });
  });

  async function pingAllSizes(): Promise<void> {
    for (const size of SIZES) {
      const words = pingAtOnce('-q', '-c', '3', '-s', `${size}`, '-p', 'a55a17', 'w3');
      expect((await lab.inside('w1', words)).stdout).toContain(' 0% packet loss');
    }
  }

  test('tcpdump finds protocol 4, right lengths and right checksums', async () => {
    const file = join(directory, 'fabric.pcap');
    const dump = spawn('ip', [
      ...['netns', 'exec', lab.namespace('fabric'), 'tcpdump', '-U', '-Z', 'root', '-i', 'node1'],
      // Requests and answers of all sizes; it ends by itself, since what it has not read yet is lost when killed.
      ...['-c', `${2 * 3 * SIZES.length}`, '-w', file, 'ip proto 4'],
    ]);
    let said = '';
    dump.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    let ended = false;
    dump.on('close', () => {
      ended = true;
    });
    expect(await poll(systemClock, 10_000, 20, async () => /listening on/.test(said) || undefined)).toBe(
      true,
    );
    await pingAllSizes();
    await poll(systemClock, 10_000, 20, async () => ended || undefined);
    dump.kill('SIGKILL');

    const read = await runCommand('tcpdump', ['-vvv', '-n', '-r', file]);
    const outer = [...read.stdout.matchAll(/proto IPIP \(4\), length (\d+)/g)].map((match) =>
      Number(match[1]),
    );
    const inner = [...read.stdout.matchAll(/proto ICMP \(1\), length (\d+)/g)].map((match) =>
      Number(match[1]),
    );
    // Both directions: three requests and three answers of each size, 28 bytes of inner headers, 20 of outer.
    expect(inner.toSorted((a, b) => a - b)).toEqual(SIZES.flatMap((size) => Array(6).fill(size + 28)));
    expect(outer).toEqual(inner.map((length) => length + 20));
    expect(read.stdout).not.toMatch(/bad cksum|wrong icmp cksum|truncated|\[\|/);
  });

  test('the inner packet leaves the tunnel as it went in', async () => {
    const open = (node: string) =>
      openCapture({ netnsPath: `/run/netns/${lab.namespace(node)}`, interface: 'tunl0' });
    const [near, far] = [open('node1'), open('node3')];
    try {
      await pingAllSizes();
      const [sent, received] = [near, far].map(requestsOf);
      expect(sent).toHaveLength(3 * SIZES.length);
      expect(received).toEqual(sent);
    } finally {
      near.close();
      far.close();
    }
  });

  test('a megabyte by TCP comes back as it was sent', async () => {
    const server = lab.inside('w3', [process.execPath, '-e', ECHO_SERVER]);
    const client = await lab.inside('w1', [process.execPath, '-e', ECHO_CLIENT]);
    expect(client).toMatchObject({ status: 0, stdout: 'the same 1048576 bytes\n' });
    expect((await server).status).toBe(0);
  });
});

/** Serves one connection and ends. */
const ECHO_SERVER = `
const server = require('net').createServer((socket) => { server.close(); socket.pipe(socket); }).listen(7007);
setTimeout(() => process.exit(3), 60000).unref();
`;

/** Retries until the server listens, at most a minute. */
const ECHO_CLIENT = `
const sent = require('crypto').randomBytes(1 << 20);
setTimeout(() => process.exit(3), 60000).unref();
const attempt = () => {
  const socket = require('net').connect(7007, 'w3');
  const received = [];
  socket.on('error', () => setTimeout(attempt, 50));
  socket.on('data', (chunk) => received.push(chunk));
  socket.on('end', () => {
    const back = Buffer.concat(received);
    console.log(back.equals(sent) ? 'the same ' + back.length + ' bytes' : 'DIFFERENT');
  });
  socket.on('connect', () => socket.end(sent));
};
attempt();
`;

/** Whole echo requests, in hexadecimal, in the order in which they passed. */
function requestsOf(capture: Capture): string[] {
  const ICMP_AT = 20;
  return capture
    .read()
    .filter(({ bytes }) => bytes[9] === 1 && bytes[ICMP_AT] === 8)
    .map(({ bytes }) => Buffer.from(bytes).toString('hex'));
}
