import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ipv4 } from '../../../src/ip/ipv4.ts';
import { type Flow, observeFlow, type Place, type Seen } from '../../../src/lab/observed.ts';
import { readFrame, type Sighting, tokenPayload } from '../../../src/lab/sighting.ts';
import { icmpPacket, ipv4Packet, udpPacket } from '../../helpers/packets.ts';

const W1 = ipv4('192.168.1.1');
const W2 = ipv4('192.168.2.1');
const TOKEN = { round: 0xdeadbeef, flow: 3, sequence: 1 };
const OUTER = { source: ipv4('10.0.1.11'), destination: ipv4('10.0.1.12') };

function echo(type: number, source: number, destination: number): Uint8Array {
  return icmpPacket(type, 0, 0, [...tokenPayload(TOKEN)], { source, destination });
}

function frame(packet: Uint8Array): Uint8Array {
  return Uint8Array.from([...new Array<number>(12).fill(2), 0x08, 0x00, ...packet]);
}

test('a request and its answer, plain and in both wrappings', () => {
  const request = echo(8, W1, W2);
  const expected = { token: TOKEN, kind: 'request', wrapping: 'none', source: W1, destination: W2 };
  expect(readFrame(frame(request))).toEqual([expected]);
  expect(readFrame(frame(ipv4Packet(4, [...request], OUTER)))).toEqual([{ ...expected, wrapping: 'ipip' }]);
  expect(readFrame(frame(udpPacket([...request], OUTER)))).toEqual([{ ...expected, wrapping: 'udp' }]);
  expect(readFrame(frame(echo(0, W2, W1)))).toMatchObject([{ kind: 'reply', source: W2 }]);
});

test('a UDP superpacket holds several: probes sent together were taken for packets that never crossed', () => {
  const probes = [0, 1, 2].map((sequence) =>
    icmpPacket(8, 0, 0, [...tokenPayload({ ...TOKEN, sequence })], { source: W1, destination: W2 }),
  );
  const superpacket = udpPacket(
    probes.flatMap((probe) => [...probe]),
    OUTER,
  );
  const seen = readFrame(frame(superpacket));
  expect(seen.map(({ token, wrapping }) => [token.sequence, wrapping])).toEqual([
    [0, 'udp'],
    [1, 'udp'],
    [2, 'udp'],
  ]);
});

test("other people's packets are no sightings, whatever they hold", () => {
  expect(readFrame(frame(icmpPacket(8, 0, 0, new Array<number>(16).fill(7))))).toEqual([]);
  expect(readFrame(frame(echo(3, W1, W2)))).toEqual([]);
  const twice = ipv4Packet(4, [...ipv4Packet(4, [...echo(8, W1, W2)], OUTER)], OUTER);
  expect(readFrame(frame(twice))).toEqual([]);
  const whole = frame(ipv4Packet(4, [...echo(8, W1, W2)], OUTER));
  for (let length = 0; length < whole.length; length++)
    expect(readFrame(whole.subarray(0, length))).toEqual([]);
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => readFrame(bytes).length === 0));
});

const FLOW: Flow = { id: 3, from: 'w1', fromNode: 'node1', to: 'w2', source: W1, destination: W2 };
const AT: Record<string, Place> = {
  port: { type: 'fabric-port', node: 'node1' },
  otherPort: { type: 'fabric-port', node: 'node2' },
  w1: { type: 'host', host: 'w1' },
  w2: { type: 'host', host: 'w2' },
};

function seen(at: string, incoming: boolean, ms: number, change: Partial<Sighting> = {}): Seen {
  const token = { ...TOKEN, sequence: 0 };
  const sighting = {
    token,
    kind: 'request',
    wrapping: 'none',
    source: W1,
    destination: W2,
    ...change,
  } as const;
  return { sighting, place: AT[at]!, incoming, timestampNs: BigInt(ms * 1e6), frame: new Uint8Array() };
}

const reply = (at: string, incoming: boolean, ms: number) =>
  seen(at, incoming, ms, { kind: 'reply', source: W2, destination: W1 });

function observe(sights: readonly Seen[], flow: Flow = FLOW) {
  const { forms, transport, received, rttMs, arrivedFrom } = observeFlow(flow, 1, sights);
  return { form: forms[0], transport, received, rttMs, arrivedFrom };
}

test('what the request looked like where it left its node decides', () => {
  const ends = [seen('w1', false, 10), seen('w2', true, 12), reply('w1', true, 15)];
  const answered = { received: 1, rttMs: 5, arrivedFrom: W1 };
  expect(observe([...ends, seen('port', true, 11, { wrapping: 'ipip' })])).toEqual({
    ...answered,
    form: 'encapsulated',
    transport: 'ipip',
  });
  expect(observe([...ends, seen('port', true, 11)])).toEqual({
    ...answered,
    form: 'direct',
    transport: null,
  });
  // Leaving the fabric towards the node, and another node's port, are not where it left its node.
  expect(observe([...ends, seen('port', false, 11), seen('otherPort', true, 11)]).form).toBe('local');
});

test('what does not arrive as it was sent is dropped, whatever was seen on the way', () => {
  const crossing = seen('port', true, 11, { wrapping: 'ipip' });
  expect(observe([seen('w1', false, 10), crossing])).toEqual({
    form: 'dropped',
    transport: null,
    received: 0,
    rttMs: null,
    arrivedFrom: null,
  });
  const translated = seen('w2', true, 12, { source: ipv4('10.0.1.11') });
  expect(observe([seen('w1', false, 10), crossing, translated])).toMatchObject({
    form: 'dropped',
    arrivedFrom: ipv4('10.0.1.11'),
  });
});

test('an answer that is lost leaves the form of the request as it was', () => {
  const sights = [
    seen('w1', false, 10),
    seen('port', true, 11),
    seen('w2', true, 12),
    reply('w2', false, 13),
  ];
  expect(observe(sights)).toMatchObject({ form: 'direct', received: 0, rttMs: null });
});

test('each probe of a round is judged by itself', () => {
  const later = (sight: Seen): Seen => ({
    ...sight,
    sighting: { ...sight.sighting, token: { ...TOKEN, sequence: 1 } },
  });
  const sights = [seen('port', true, 11), seen('w2', true, 12), later(seen('port', true, 21))];
  expect(observeFlow(FLOW, 2, sights).forms).toEqual(['direct', 'dropped']);
});
