/** The quick readers against the kinds' own decoders: where the quick way answers, the answers are the same. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseIpv4 } from '../../src/ip/ipv4.ts';
import { parseInterfaceAddress } from '../../src/ip/prefix.ts';
import { allocationsOf, blockOwner, blockPrefix, decodeBlock } from '../../src/model/ipam-values.ts';
import { readAffinityState, readBlockOwners, readNodeAddresses } from '../../src/model/quick-read.ts';
import { decodeStored } from '../../src/model/stored.ts';

const name = fc.constantFrom('node1', 'node2', '', 'a-node-with-a-long-name.example.org');
/** Values that have no business where they are put. */
const odd = fc.constantFrom<unknown>(null, undefined, 7, '', 'x', [], {}, [null], { node: 5 }, -1, 1.5, true);
const now = <T>(usual: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 40, arbitrary: usual }, { weight: 1, arbitrary: odd });

const attribute = fc.record({
  handle_id: now(fc.option(fc.constantFrom('h1', 'h2'))),
  secondary: now(fc.option(fc.record({ node: now(name), pod: fc.constant('w1') }, { requiredKeys: [] }))),
});
const block = fc.record(
  {
    cidr: now(
      fc.constantFrom('192.168.0.0/29', '192.168.0.8/29', '10.0.0.0/29', '192.168.0.1/29', '192.168.0.0/15'),
    ),
    affinity: now(fc.option(fc.constantFrom('host:node1', 'host:', 'virtual:load-balancer', 'host:node2'))),
    allocations: now(
      fc.array(now(fc.option(fc.integer({ min: 0, max: 2 }), { freq: 2 })), { minLength: 8, maxLength: 8 }),
    ),
    unallocated: now(fc.array(now(fc.integer({ min: 0, max: 7 })), { maxLength: 4 })),
    attributes: now(fc.array(now(attribute), { minLength: 3, maxLength: 3 })),
    sequenceNumber: now(fc.constantFrom(0, 5, 2 ** 60)),
    sequenceNumberForAllocation: now(fc.dictionary(fc.constantFrom('0', '3'), now(fc.constant(4)))),
    deleted: now(fc.boolean()),
    hostAffinity: odd,
    unheardOf: odd,
  },
  { requiredKeys: ['cidr', 'allocations'] },
);

test('a block', () => {
  let quick = 0;
  fc.assert(
    fc.property(block, (value) => {
      const text = JSON.stringify(value);
      const exact = decodeBlock(text);
      const read = readBlockOwners(text);
      if (!exact.ok) {
        expect(read).toEqual(exact);
        return;
      }
      quick++;
      expect(read).toEqual({
        ok: true,
        value: {
          prefix: blockPrefix(exact.value),
          owner: blockOwner(exact.value) ?? null,
          allocations: allocationsOf(exact.value).flatMap(({ address, attributes }) =>
            attributes.secondary?.node ? [{ address, node: attributes.secondary.node }] : [],
          ),
          deleted: exact.value.deleted,
        },
      });
    }),
    { numRuns: 1000 },
  );
  // That good ones were tried at all: some 240.
  expect(quick).toBeGreaterThan(100);
});

const address = fc.oneof(
  { weight: 20, arbitrary: fc.constantFrom('10.0.1.11/24', '10.0.1.11', '10.0.1.12/16') },
  { weight: 2, arbitrary: fc.constantFrom('10.0.1.11/33', 'fe80::1', '10.0.1.011') },
  { weight: 1, arbitrary: odd },
);
const node = fc.record(
  {
    kind: now(fc.constant('Node')),
    apiVersion: now(fc.constant('projectcalico.org/v3')),
    metadata: now(
      fc.record(
        {
          name: fc.constant('node1'),
          uid: now(fc.constant('u')),
          labels: now(fc.dictionary(fc.constantFrom('a', 'b'), now(fc.constant('x')))),
          annotations: now(fc.dictionary(fc.constantFrom('tortie/udp-port', 'b'), now(fc.constant('5555')))),
        },
        { requiredKeys: [] },
      ),
    ),
    spec: now(
      fc.record(
        {
          bgp: now(
            fc.record(
              {
                ipv4Address: address,
                ipv4IPIPTunnelAddr: now(fc.constantFrom('192.168.0.1', '0.0.0.0', '192.168.0.1/32')),
                asNumber: now(fc.constantFrom(64512, '1.10', 2 ** 40)),
              },
              { requiredKeys: [] },
            ),
          ),
          addresses: now(
            fc.array(now(fc.record({ address, type: now(fc.constant('CalicoNodeIP')) })), { maxLength: 2 }),
          ),
          wireguard: now(fc.constant({ interfaceIPv4Address: '192.168.0.2' })),
        },
        { requiredKeys: [] },
      ),
    ),
    status: now(fc.constant({ wireguardPublicKey: 'k' })),
  },
  { requiredKeys: ['kind', 'apiVersion', 'metadata'] },
);

test('a node', () => {
  let good = 0;
  fc.assert(
    fc.property(node, (value) => {
      const text = JSON.stringify(value);
      const exact = decodeStored('Node', text);
      const read = readNodeAddresses(text);
      if (!exact.ok) {
        expect(read).toEqual(exact);
        return;
      }
      good++;
      const { spec, metadata } = exact.resource;
      expect(read).toEqual({
        ok: true,
        value: {
          address: parseInterfaceAddress(spec.bgp?.ipv4Address ?? '') ?? null,
          tunnelAddress: parseIpv4(spec.bgp?.ipv4IPIPTunnelAddr ?? '') || null,
          otherAddresses: (spec.addresses ?? []).flatMap(
            (a) => parseInterfaceAddress(a.address)?.address ?? [],
          ),
          annotations: metadata.annotations ?? {},
        },
      });
    }),
    { numRuns: 1000 },
  );
  // That good ones were tried at all: some 480.
  expect(good).toBeGreaterThan(200);
});

test('an affinity', () => {
  expect(readAffinityState('{"state":"confirmed","deleted":false}')).toEqual({
    ok: true,
    value: 'confirmed',
  });
  expect(readAffinityState('{"deleted":false,"state":"pending"}')).toEqual({ ok: true, value: 'pending' });
  expect(readAffinityState('')).toEqual({ ok: true, value: 'confirmed' });
  expect(readAffinityState('{"state":"asleep"}').ok).toBe(false);
});
