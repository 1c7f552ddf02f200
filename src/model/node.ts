/** Node: where a host is in the underlay, and the address of its tunnel device. */
import * as z from 'zod/v3';
import { asNumberField } from './as-number.ts';
import { isIpv4, parseAddressOrCidr } from './cidr.ts';
import { type ObjectMaker, optionalText, optionalTexts, type Refuse } from './fields.ts';

export function nodeSpec(object: ObjectMaker) {
  return object({
    bgp: object({
      asNumber: asNumberField.optional(),
      ipv4Address: optionalText,
      ipv6Address: optionalText,
      ipv4IPIPTunnelAddr: optionalText,
      routeReflectorClusterID: optionalText,
    }).optional(),
    ipv4VXLANTunnelAddr: optionalText,
    vxlanTunnelMACAddr: optionalText,
    ipv6VXLANTunnelAddr: optionalText,
    vxlanTunnelMACAddrV6: optionalText,
    orchRefs: z.array(object({ nodeName: optionalText, orchestrator: z.string() })).optional(),
    wireguard: object({ interfaceIPv4Address: optionalText, interfaceIPv6Address: optionalText }).optional(),
    addresses: z.array(object({ address: z.string(), type: optionalText })).optional(),
    interfaces: z.array(object({ name: optionalText, addresses: optionalTexts })).optional(),
  });
}

export function checkNode(spec: Readonly<Record<string, unknown>>, refuse: Refuse): void {
  const { bgp } = spec;
  if (typeof bgp !== 'object' || bgp === null) return;
  const fields = bgp as Record<string, unknown>;
  if (Object.values(fields).every((value) => value === undefined || value === ''))
    refuse(['bgp'], { field: 'Node.Spec.BGP', reason: 'Spec.BGP should not be empty' });
  const refuseAddress = (name: string, field: string, reason: string) =>
    refuse(['bgp', name], { field, value: String(fields[name]), reason });
  for (const [name, field, family] of [
    ['ipv4Address', 'Node.Spec.BGP.IPv4Address', 4],
    ['ipv6Address', 'Node.Spec.BGP.IPv6Address', 6],
  ] as const) {
    const value = fields[name];
    if (typeof value === 'string' && value && parseAddressOrCidr(value)?.family !== family)
      refuseAddress(name, field, `invalid IPv${family} address and subnet specified`);
  }
  const tunnel = fields.ipv4IPIPTunnelAddr;
  if (typeof tunnel === 'string' && tunnel && !isIpv4(tunnel))
    refuseAddress('ipv4IPIPTunnelAddr', 'Node.Spec.BGP.IPv4IPIPTunnelAddr', 'expected an IPv4 address');
}

export function nodeStatus(object: ObjectMaker) {
  return object({
    wireguardPublicKey: optionalText,
    wireguardPublicKeyV6: optionalText,
    podCIDRs: optionalTexts,
  }).default({});
}
