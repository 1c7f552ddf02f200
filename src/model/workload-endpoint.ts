/** WorkloadEndpoint: one interface of a container or VM on a node. */
import * as z from 'zod/v3';
import { parseAddressOrCidr } from './cidr.ts';
import { type ObjectMaker, optionalText, optionalTexts, type Refuse, text } from './fields.ts';

const NAME_LIMIT_LINUX_INTERFACE = 15;
const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i;

export function workloadEndpointSpec(object: ObjectMaker) {
  const nat = object({ internalIP: text, externalIP: text });
  const port = object({
    name: text,
    protocol: z.union([z.string(), z.number()]),
    port: z.number().int(),
    hostPort: z.number().int().optional(),
    hostIP: optionalText,
  });
  return object({
    orchestrator: z.string().default(''),
    workload: optionalText,
    node: z.string().default(''),
    containerID: optionalText,
    pod: optionalText,
    endpoint: z.string().default(''),
    serviceAccountName: optionalText,
    ipNetworks: optionalTexts,
    ipNATs: z.array(nat).optional(),
    ipv4Gateway: optionalText,
    ipv6Gateway: optionalText,
    profiles: optionalTexts,
    interfaceName: z.string().default(''),
    mac: optionalText,
    ports: z.array(port).optional(),
    allowSpoofedSourcePrefixes: optionalTexts,
  });
}

export function checkWorkloadEndpoint(spec: Readonly<Record<string, unknown>>, refuse: Refuse): void {
  const field = 'WorkloadEndpoint.Spec';
  for (const [i, network] of (Array.isArray(spec.ipNetworks) ? spec.ipNetworks : []).entries()) {
    const cidr = parseAddressOrCidr(String(network));
    const refused = (reason: string) =>
      refuse(['ipNetworks', String(i)], { field: `${field}.IPNetworks`, value: String(network), reason });
    if (!cidr) refused('expected an address or CIDR');
    else if (cidr.length !== (cidr.family === 4 ? 32 : 128))
      refused('IP network contains multiple addresses');
  }
  if (String(spec.interfaceName ?? '').length > NAME_LIMIT_LINUX_INTERFACE)
    refuse(['interfaceName'], {
      field: `${field}.InterfaceName`,
      value: String(spec.interfaceName),
      reason: `an interface name has at most ${NAME_LIMIT_LINUX_INTERFACE} characters`,
    });
  if (spec.mac && !MAC.test(String(spec.mac)))
    refuse(['mac'], { field: `${field}.MAC`, value: String(spec.mac), reason: 'expected a MAC address' });
}
