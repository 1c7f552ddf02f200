/** Against what a kernel really said; test/fixtures/rtnetlink/record.py records it anew. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatIpv4, ipv4 } from '../../../src/ip/ipv4.ts';
import {
  decodeNetlink,
  encodeDump,
  encodeRoute,
  encodeRouteLookup,
  type NetlinkMessage,
  ROUTE_BLACKHOLE,
  ROUTE_UNICAST,
  type RouteMessage,
  type RouteNextHop,
  RT_TABLE_MAIN,
} from '../../../src/wire/rtnetlink.ts';
import { bytes, hex } from '../../helpers/bytes.ts';

interface Recording {
  readonly steps: readonly { readonly command: string; readonly datagrams: readonly string[] }[];
  readonly dumps: Readonly<Record<string, readonly string[]>>;
  readonly error: readonly string[];
  readonly acknowledgement: readonly string[];
}

const fixture = join(import.meta.dirname, '../../fixtures/rtnetlink/recorded.json');
const recording = JSON.parse(readFileSync(fixture, 'utf8')) as Recording;

function decodeAll(datagrams: readonly string[] | undefined): NetlinkMessage[] {
  return (datagrams ?? []).flatMap((text) => decodeNetlink(bytes(text)));
}

function said(command: string): NetlinkMessage[] {
  return decodeAll(recording.steps.find((step) => step.command === command)?.datagrams);
}

/** In this recording e0 is interface 3 (its peer 2) and tunl0 interface 4. */
const E0 = 3;
const TUNL0 = 4;

function hopText({ gateway, interfaceIndex, onlink, dead, weight }: RouteNextHop): string {
  const via = gateway === null ? '' : `via ${formatIpv4(gateway)} `;
  return `${via}dev ${interfaceIndex}${onlink ? ' onlink' : ''}${dead ? ' dead' : ''} weight ${weight}`;
}

function text(message: NetlinkMessage): string {
  if (message.kind === 'link') {
    const state = `${message.up ? 'up' : 'down'}${message.running ? ' running' : ''}`;
    return `${message.change} link ${message.index} ${message.name} ${message.type} mtu ${message.mtu} ${state}`;
  }
  if (message.kind === 'address')
    return `${message.change} address ${formatIpv4(message.address)}/${message.prefixLength} dev ${message.interfaceIndex}`;
  if (message.kind !== 'route') return JSON.stringify(message);
  const { change, destination, prefixLength, table, protocol, type, priority, mtu, nextHops } = message;
  const source = message.preferredSource === null ? '' : ` src ${formatIpv4(message.preferredSource)}`;
  const head = `${change} route ${formatIpv4(destination)}/${prefixLength} table ${table} proto ${protocol} type ${type}`;
  return `${head} metric ${priority} mtu ${mtu}${source} [${nextHops.map(hopText).join('; ')}]`;
}

test.each([
  ['link set e0 mtu 1450 up', ['set link 3 e0 veth mtu 1450 down', 'set link 3 e0 veth mtu 1450 up']],
  ['tuntap add tunl0 mode tun', ['set link 4 tunl0 tun mtu 1500 down']],
  [
    'addr add 192.168.12.0/32 dev tunl0',
    [
      'set address 192.168.12.0/32 dev 4',
      'set route 192.168.12.0/32 table 255 proto 2 type 2 metric 0 mtu 0 src 192.168.12.0 [dev 4 weight 1]',
    ],
  ],
  [
    'route add 192.168.104.0/26 via 10.0.2.12 dev tunl0 onlink proto 84',
    [
      'set route 192.168.104.0/26 table 254 proto 84 type 1 metric 0 mtu 0 [via 10.0.2.12 dev 4 onlink dead weight 1]',
    ],
  ],
  [
    'route replace 192.168.104.0/26 via 10.0.2.12 dev e0 proto 84',
    [
      'set route 192.168.104.0/26 table 254 proto 84 type 1 metric 0 mtu 0 [via 10.0.2.12 dev 3 dead weight 1]',
    ],
  ],
  [
    'route add blackhole 192.168.12.0/26 proto 84',
    ['set route 192.168.12.0/26 table 254 proto 84 type 6 metric 0 mtu 0 []'],
  ],
  [
    'route add 192.168.12.5/32 dev e0 scope link src 10.0.2.11 metric 7 mtu 1400',
    [
      'set route 192.168.12.5/32 table 254 proto 3 type 1 metric 7 mtu 1400 src 10.0.2.11 [dev 3 dead weight 1]',
    ],
  ],
  [
    'route add default proto 80 nexthop via 10.0.2.1 dev e0 weight 3 nexthop via 10.0.2.2 dev tunl0 weight 1 onlink',
    [
      'set route 0.0.0.0/0 table 254 proto 80 type 1 metric 0 mtu 0 [via 10.0.2.1 dev 3 dead weight 3; via 10.0.2.2 dev 4 onlink dead weight 1]',
    ],
  ],
  [
    'route add 198.51.100.0/24 via 10.0.2.1 table 1000',
    ['set route 198.51.100.0/24 table 1000 proto 3 type 1 metric 0 mtu 0 [via 10.0.2.1 dev 3 dead weight 1]'],
  ],
  [
    'route del 192.168.104.0/26',
    [
      'deleted route 192.168.104.0/26 table 254 proto 84 type 1 metric 0 mtu 0 [via 10.0.2.12 dev 3 dead weight 1]',
    ],
  ],
])('ip %s', (command, expected) => {
  expect(said(`ip ${command}`).map(text)).toEqual(expected);
});

test('a deleted link says so, after its addresses and routes', () => {
  const messages = said('ip link del tunl0');
  expect(messages.map((message) => message.kind)).toContain('address');
  expect(messages.at(-1)).toMatchObject({ kind: 'link', change: 'deleted', index: TUNL0, name: 'tunl0' });
});

test('dumps end with done, and hold what the steps had made', () => {
  const [links, addresses, routes] = ['links', 'addresses', 'routes'].map((name) =>
    decodeAll(recording.dumps[name]),
  );
  for (const dump of [links, addresses, routes])
    expect(dump?.at(-1)).toEqual({ kind: 'done', sequence: 7, interrupted: false });
  const names = links?.flatMap((message) => (message.kind === 'link' ? [message.name] : []));
  expect(names).toEqual(['lo', 'e0-peer', 'e0', 'tunl0']);
  const own = addresses?.flatMap((m) => (m.kind === 'address' ? [formatIpv4(m.address)] : []));
  expect(own).toEqual(['127.0.0.1', '10.0.2.11', '192.168.12.0']);
  const ours = routes?.filter((message) => message.kind === 'route' && message.protocol === 84);
  expect(ours?.map(text)).toHaveLength(2);
});

test('a refused request is its errno, an accepted one 0', () => {
  expect(decodeAll(recording.error)).toEqual([{ kind: 'error', sequence: 7, errno: 19 }]); // ENODEV
  expect(decodeAll(recording.acknowledgement)).toEqual([{ kind: 'error', sequence: 7, errno: 0 }]);
});

const ROUTE: RouteMessage = {
  kind: 'route',
  change: 'set',
  destination: ipv4('192.168.104.0'),
  prefixLength: 26,
  table: RT_TABLE_MAIN,
  protocol: 84,
  scope: 0,
  type: ROUTE_UNICAST,
  priority: 0,
  preferredSource: null,
  mtu: 0,
  nextHops: [{ gateway: ipv4('10.0.2.12'), interfaceIndex: TUNL0, onlink: true, dead: false, weight: 1 }],
};

test.each([
  ['through the tunnel', ROUTE],
  ['a blackhole', { ...ROUTE, type: ROUTE_BLACKHOLE, nextHops: [] }],
  [
    'a default with metric, source and MTU',
    {
      ...ROUTE,
      prefixLength: 0,
      destination: ipv4('0.0.0.0'),
      priority: 9,
      preferredSource: ipv4('10.0.2.11'),
      mtu: 1400,
    },
  ],
  ['taken away', { ...ROUTE, change: 'deleted' as const }],
  ['of a table beyond 255', { ...ROUTE, table: 1000 }],
  [
    'of two paths',
    {
      ...ROUTE,
      nextHops: [
        { ...ROUTE.nextHops[0]!, weight: 3 },
        { gateway: null, interfaceIndex: E0, onlink: false, dead: false, weight: 1 },
      ],
    },
  ],
])('what is asked for a route is what the kernel would say: %s', (_name, route) => {
  const position = route.change === 'set' ? { position: 'replaced' } : {};
  expect(decodeNetlink(encodeRoute(route, 7))).toEqual([{ ...route, ...position }]);
});

test('requests, byte by byte', () => {
  expect(hex(encodeDump('routes', 7))).toBe(
    '1c 00 00 00 1a 00 01 03 07 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00 00 00 00 00',
  );
  expect(hex(encodeRouteLookup(ipv4('10.0.2.12'), 1))).toBe(
    '24 00 00 00 1a 00 01 00 01 00 00 00 00 00 00 00 02 20 00 00 00 00 00 00 00 00 00 00 08 00 01 00 0a 00 02 0c',
  );
});

test('decoding is total over cut and spoiled messages', () => {
  const all = recording.steps.flatMap((step) => step.datagrams.map(bytes));
  fc.assert(
    fc.property(fc.constantFrom(...all), fc.nat(2000), fc.nat(2000), fc.nat(255), (data, cut, at, value) => {
      const spoiled = Uint8Array.from(data.subarray(0, cut));
      if (at < spoiled.length) spoiled[at] = value;
      expect(decodeNetlink(spoiled).length).toBeLessThanOrEqual(all.length);
    }),
  );
});
