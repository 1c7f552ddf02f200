/** The namespace entry, the capture socket and the probe on a veth pair between two namespaces. */
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { poll, systemClock } from '../../src/base/clock.ts';
import { openCapture } from '../../src/io/capture.ts';
import { inNetworkNamespace, interfaceIndex, namedNetworkNamespace } from '../../src/io/netns.ts';
import { openProbe } from '../../src/io/probe.ts';
import { ipv4 } from '../../src/ip/ipv4.ts';
import { ipv4In } from '../helpers/frames.ts';
import { untilQueued } from '../helpers/links.ts';

const A = `tortie-t${process.pid}-cpa`;
const B = `tortie-t${process.pid}-cpb`;
const ip = (...words: string[]) => execFileSync('ip', words, { timeout: 10_000, encoding: 'utf8' });

beforeAll(async () => {
  ip('netns', 'add', A);
  ip('netns', 'add', B);
  ip('-n', A, 'link', 'add', 'left', 'type', 'veth', 'peer', 'name', 'right', 'netns', B);
  ip('-n', A, 'addr', 'add', '10.0.1.11/24', 'dev', 'left');
  ip('-n', B, 'addr', 'add', '10.0.1.12/24', 'dev', 'right');
  ip('-n', A, 'link', 'set', 'left', 'up');
  ip('-n', B, 'link', 'set', 'right', 'up');
  await untilQueued(A, 'left');
  await untilQueued(B, 'right');
});

afterAll(() => {
  for (const name of [A, B]) ip('netns', 'del', name);
});

test('a namespace is entered for one call and left again', () => {
  const inside = inNetworkNamespace(namedNetworkNamespace(A), () => interfaceIndex('left'));
  expect(inside).toBeGreaterThan(0);
  expect(() => interfaceIndex('left')).toThrow(/there is no interface left .*/);
  expect(() =>
    inNetworkNamespace(namedNetworkNamespace(A), () => {
      throw new Error('from inside');
    }),
  ).toThrow('from inside');
  expect(() => interfaceIndex('left')).toThrow();
  expect(() => inNetworkNamespace('/run/netns/tortie-none', () => 0)).toThrow(/no network namespace/);
});

test('an echo request is answered, and the capture sees request and reply with time and direction', async () => {
  const capture = openCapture({ netnsPath: namedNetworkNamespace(B), interface: 'right' });
  const probe = openProbe({ netnsPath: namedNetworkNamespace(A) });
  try {
    const payload = new TextEncoder().encode('tortie');
    expect(probe.sendEcho(ipv4('10.0.1.12'), 7, 1, payload)).toBe(true);
    const answers = await poll(systemClock, 5000, 5, async () => {
      const got = probe.read();
      return got.length > 0 ? got : undefined;
    });
    expect(answers).toMatchObject([{ kind: 'reply', from: ipv4('10.0.1.12'), identifier: 7, sequence: 1 }]);
    const icmp = capture.read().filter(({ bytes }) => ipv4In(bytes)?.[9] === 1);
    expect(icmp.map((frame) => [frame.outgoing, frame.bytes[34]])).toEqual([
      [false, 8],
      [true, 0],
    ]);
    expect(new TextDecoder().decode(icmp[0]?.bytes.subarray(42))).toBe('tortie');
    const age = BigInt(Date.now()) * 1_000_000n - (icmp[0]?.timestampNs ?? 0n);
    expect(age > -1_000_000_000n && age < 60_000_000_000n).toBe(true);
  } finally {
    capture.close();
    probe.close();
  }
});

test('a datagram to a closed port and a destination without route are told apart', () => {
  const probe = openProbe({ netnsPath: namedNetworkNamespace(A) });
  try {
    expect(probe.sendUdp(ipv4('10.0.1.12'), 9, new Uint8Array(10))).toBe(true);
    expect(probe.sendEcho(ipv4('203.0.113.1'), 1, 1)).toBe(false);
  } finally {
    probe.close();
  }
});
