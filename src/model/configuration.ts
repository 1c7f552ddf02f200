/** The configuration resources: BGPConfiguration, ClusterInformation, IPReservation. Felix has a file of its own. */
import * as z from 'zod/v3';
import { asNumberField } from './as-number.ts';
import { parseAddressOrCidr } from './cidr.ts';
import {
  type ObjectMaker,
  optionalFlag,
  optionalInteger,
  optionalText,
  optionalTexts,
  type Refuse,
} from './fields.ts';

/** Values that we print and keep but do not look into. */
const opaque = z.unknown().optional();

export function bgpConfigurationSpec(object: ObjectMaker) {
  return object({
    logSeverityScreen: optionalText,
    nodeToNodeMeshEnabled: optionalFlag,
    asNumber: asNumberField.optional(),
    serviceLoadBalancerIPs: opaque,
    serviceExternalIPs: opaque,
    serviceClusterIPs: opaque,
    communities: opaque,
    prefixAdvertisements: opaque,
    listenPort: optionalInteger,
    nodeMeshPassword: opaque,
    nodeMeshMaxRestartTime: optionalText,
    bindMode: optionalText,
    ignoredInterfaces: optionalTexts,
    ipv4NormalRoutePriority: optionalInteger,
    ipv6NormalRoutePriority: optionalInteger,
    localWorkloadPeeringIPV4: optionalText,
    localWorkloadPeeringIPV6: optionalText,
    programClusterRoutes: optionalText,
  });
}

export function clusterInformationSpec(object: ObjectMaker) {
  return object({
    clusterGUID: optionalText,
    clusterType: optionalText,
    calicoVersion: optionalText,
    datastoreReady: optionalFlag,
    variant: optionalText,
  });
}

export function ipReservationSpec(object: ObjectMaker) {
  return object({ reservedCIDRs: optionalTexts });
}

export function checkIPReservation(spec: Readonly<Record<string, unknown>>, refuse: Refuse): void {
  for (const [i, cidr] of (Array.isArray(spec.reservedCIDRs) ? spec.reservedCIDRs : []).entries())
    if (!parseAddressOrCidr(String(cidr)))
      refuse(['reservedCIDRs', String(i)], {
        field: 'IPReservation.Spec.ReservedCIDRs',
        value: String(cidr),
        reason: 'expected an address or CIDR',
      });
}
