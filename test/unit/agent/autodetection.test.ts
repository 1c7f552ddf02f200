import { expect, test } from 'vitest';
import { detectAddress, lengthOnInterface, parseDetectionMethod } from '../../../src/agent/autodetection.ts';
import { UsageError } from '../../../src/base/errors.ts';
import type { HostFacts } from '../../../src/control/ports.ts';
import { ipv4 } from '../../../src/ip/ipv4.ts';
import { formatPrefix, parseInterfaceAddress } from '../../../src/ip/prefix.ts';

/** Interfaces in the order of their index, oldest first. */
function host(...interfaces: [name: string, ...addresses: string[]][]): HostFacts {
  return {
    links: interfaces.map(([name], i) => ({
      name,
      index: i + 1,
      mtu: 1500,
      up: name !== 'down0',
      kind: '',
      reversePathFilter: 0,
    })),
    addresses: interfaces.flatMap(([device, ...texts]) =>
      texts.map((text) => ({ device, ...parseInterfaceAddress(text)! })),
    ),
    routes: [],
  };
}

const HOST = host(
  ['lo', '127.0.0.1/8'],
  ['eth0', '10.0.1.100/32', '10.0.1.11/24'],
  ['eth1', '172.31.0.5/20'],
  ['docker0', '172.17.0.1/16'],
  ['br-0123', '172.18.0.1/16'],
  ['cali123', '169.254.1.1/32'],
  ['tunl0', '192.168.1.0/32'],
  ['down0', '203.0.113.9/24'],
);

const detect = async (method: string, facts = HOST, device = 'tunl0') => {
  const found = await detectAddress(parseDetectionMethod(method), facts, device, async () =>
    ipv4('10.0.1.11'),
  );
  return `${found.device} ${formatPrefix(found)}`;
};

test.each([
  ['first-found', 'eth1 172.31.0.5/20'],
  ['interface=eth0', 'eth0 10.0.1.11/24'],
  ['interface=nothing,eth.*', 'eth1 172.31.0.5/20'],
  ['interface=docker0', 'docker0 172.17.0.1/16'],
  ['skip-interface=eth1', 'eth0 10.0.1.11/24'],
  ['cidr=10.0.0.0/8', 'eth0 10.0.1.11/24'],
  ['can-reach=example.org', 'eth0 10.0.1.11/24'],
])('%s -> %s', async (method, expected) => {
  expect(await detect(method)).toBe(expected);
});

test.each([
  '127.0.0.1',
  '192.168.1.0',
])('can-reach that ends at %s, loopback or our own device, finds nothing', async (end) => {
  const found = detectAddress(parseDetectionMethod('can-reach=localhost'), HOST, 'tunl0', async () =>
    ipv4(end),
  );
  await expect(found).rejects.toThrow(/Couldn't autodetect .* can-reach=localhost/);
});

test('our own device is no candidate, whatever its name; a /32 is taken where there is nothing else', async () => {
  const facts = host(['eth0', '10.0.1.11/32'], ['wan7', '192.168.1.0/32']);
  expect(await detect('first-found', facts, 'wan7')).toBe('eth0 10.0.1.11/32');
});

test('nothing found: exit 4, with what the host has', async () => {
  await expect(detect('cidr=203.0.113.0/24')).rejects.toMatchObject({
    exitCode: 4,
    message: expect.stringMatching(
      /Couldn't autodetect a management IPv4 address by cidr=203\.0\.113\.0\/24; .*eth0 10\.0\.1\.11\/24/,
    ),
  });
});

test.each([
  '',
  'first',
  'can-reach=',
  'interface',
  'interface=(',
  'cidr=10.0.0.1/8',
  'cidr=',
])('the method %j is a usage error', (method) => {
  expect(() => parseDetectionMethod(method)).toThrow(UsageError);
});

test("a bare address gets its interface's length, /32 where no interface has it", () => {
  expect(lengthOnInterface(HOST, ipv4('10.0.1.11'))).toBe(24);
  expect(lengthOnInterface(HOST, ipv4('10.9.9.9'))).toBe(32);
});
