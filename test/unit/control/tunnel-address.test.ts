/** Calico's own scenarios for tunnel addresses (its system tests), and what its users ran into. */
import { beforeEach, expect, test } from 'vitest';
import { formatIpv4, ipv4 } from '../../../src/ip/ipv4.ts';
import { prefix, prefixContains } from '../../../src/ip/prefix.ts';
import { blockKey } from '../../../src/model/keys.ts';
import { IpamFixture } from '../../helpers/ipam.ts';

const FIRST = { cidr: '10.50.0.0/24', blockSize: 26, ipipMode: 'Always' };
const SECOND = { cidr: '10.60.0.0/24', blockSize: 26, ipipMode: 'CrossSubnet' };

let fixture: IpamFixture;

beforeEach(async () => {
  fixture = new IpamFixture();
  await fixture.node('node1');
});

async function tunnelAddress(node = 'node1'): Promise<string | null> {
  const address = await fixture.allocator().assignTunnelAddress(node);
  return address === null ? null : formatIpv4(address);
}

function isIn(cidr: string, address: string | null): boolean {
  return address !== null && prefixContains(prefix(cidr), ipv4(address));
}

test('none without a pool; one once there is a pool; the same at every look', async () => {
  expect(await tunnelAddress()).toBeNull();
  await fixture.pool('first', FIRST);
  const address = await tunnelAddress();
  expect(isIn(FIRST.cidr, address)).toBe(true);
  expect(await tunnelAddress()).toBe(address);
  expect(fixture.allocated()).toEqual(new Map([[address, 'ipip-tunnel-addr-node1']]));
});

test('leaves when the pool is disabled, returns when it is enabled', async () => {
  await fixture.pool('first', FIRST);
  await tunnelAddress();
  await fixture.pool('first', { ...FIRST, disabled: true });
  expect(await tunnelAddress()).toBeNull();
  expect(fixture.allocated().size).toBe(0);
  await fixture.pool('first', FIRST);
  expect(isIn(FIRST.cidr, await tunnelAddress())).toBe(true);
});

test('leaves when IP-in-IP is turned off, and when the pool is not for tunnels or not for this node', async () => {
  for (const change of [
    { ipipMode: 'Never' },
    { allowedUses: ['Workload'] },
    { nodeSelector: "zone == 'b'" },
    { assignmentMode: 'Manual' },
  ]) {
    await fixture.pool('first', FIRST);
    expect(await tunnelAddress()).not.toBeNull();
    await fixture.pool('first', { ...FIRST, ...change });
    expect(await tunnelAddress()).toBeNull();
    expect(fixture.allocated().size).toBe(0);
  }
});

test('moves to the other pool when its own is deleted', async () => {
  await fixture.pool('first', FIRST);
  await tunnelAddress();
  await fixture.pool('second', SECOND);
  expect(isIn(FIRST.cidr, await tunnelAddress())).toBe(true);
  await fixture.deletePool('first');
  expect(isIn(SECOND.cidr, await tunnelAddress())).toBe(true);
  expect(fixture.allocated().size).toBe(1);
});

test('an address that a workload holds is not taken for the tunnel, whatever the Node says', async () => {
  await fixture.pool('first', FIRST);
  const workload = { node: 'node1', handle: 'w1', attributes: { pod: 'w1' } };
  const { address } = await fixture.allocator().assign(workload);
  await fixture.node('node1', {}, { ipv4Address: '10.0.1.11/24', ipv4IPIPTunnelAddr: formatIpv4(address) });
  const tunnel = await tunnelAddress();
  expect(tunnel).not.toBe(formatIpv4(address));
  expect([...fixture.allocated().values()].sort()).toEqual(['ipip-tunnel-addr-node1', 'w1']);
});

test('the address that the Node names is kept where it is free', async () => {
  await fixture.pool('first', FIRST);
  await fixture.node('node1', {}, { ipv4Address: '10.0.1.11/24', ipv4IPIPTunnelAddr: '10.50.0.77' });
  expect(await tunnelAddress()).toBe('10.50.0.77');
});

test('an address from before handles is taken over with handle and attributes', async () => {
  await fixture.pool('first', FIRST);
  const unsigned = { cidr: '10.50.0.64/26', affinity: 'host:node1', allocations: new Array(64).fill(null) };
  unsigned.allocations[13] = 0;
  const free = [...Array(64).keys()].filter((ordinal) => ordinal !== 13);
  await fixture.put(
    blockKey(prefix('10.50.0.64/26')),
    JSON.stringify({
      ...unsigned,
      unallocated: free,
      attributes: [{}],
      sequenceNumberForAllocation: { 13: 0 },
    }),
  );
  await fixture.put('/calico/ipam/v2/host/node1/ipv4/block/10.50.0.64-26', '');
  await fixture.node('node1', {}, { ipv4Address: '10.0.1.11/24', ipv4IPIPTunnelAddr: '10.50.0.77' });
  expect(await tunnelAddress()).toBe('10.50.0.77');
  expect(fixture.allocated()).toEqual(new Map([['10.50.0.77', 'ipip-tunnel-addr-node1']]));
  expect(fixture.problems()).toEqual([]);
});

test("another node's attributes under this node's handle are not this node's address", async () => {
  await fixture.pool('first', FIRST);
  await fixture.node('node2');
  const stale = {
    node: 'node2',
    handle: 'ipip-tunnel-addr-node1',
    attributes: { type: 'ipipTunnelAddress' },
  };
  const { address } = await fixture.allocator().assign(stale);
  const own = await tunnelAddress();
  expect(own).not.toBe(formatIpv4(address));
  expect([...fixture.allocated()]).toEqual([[own, 'ipip-tunnel-addr-node1']]);
});

test('releasing a node gives back its tunnel address, its workloads and its blocks', async () => {
  await fixture.pool('first', FIRST);
  await fixture.node('node2');
  const kept = await tunnelAddress('node2');
  await tunnelAddress('node1');
  await fixture.allocator().assign({ node: 'node1', handle: 'w1', attributes: {} });
  await fixture.allocator().releaseNode('node1');
  expect([...fixture.allocated().keys()]).toEqual([kept]);
  expect(
    [...fixture.content.values().keys()].filter((key) => key.includes('node1') && key.includes('/ipam/')),
  ).toEqual([]);
  expect(fixture.problems()).toEqual([]);
});
