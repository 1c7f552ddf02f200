/** WorkloadEndpoint: one interface of a container or VM on a node. Its name is made of its identifiers. */
import * as z from 'zod';
import { parseAddressOrCidr } from './cidr.ts';
import { across, type ObjectMaker, optionalText, optionalTexts, text } from './fields.ts';

const NAME_LIMIT_LINUX_INTERFACE = 15;
const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i;

export interface WorkloadIdentity {
  readonly node?: string | undefined;
  readonly orchestrator?: string | undefined;
  readonly workload?: string | undefined;
  readonly pod?: string | undefined;
  readonly containerID?: string | undefined;
  readonly endpoint?: string | undefined;
}

/** What names the workload depends on who runs it; `k8s` knows pods, `cni` containers. */
const IDENTIFIER_OF: Readonly<Record<string, 'pod' | 'containerID'>> = { k8s: 'pod', cni: 'containerID' };

/** `node1-cni-w2-eth0`: identifiers joined by `-`, dashes inside of them doubled. */
export function workloadEndpointName(spec: WorkloadIdentity): string {
  const workload = spec[IDENTIFIER_OF[spec.orchestrator ?? ''] ?? 'workload'] ?? '';
  return [spec.node ?? '', spec.orchestrator ?? '', workload, spec.endpoint ?? '']
    .map((segment) => segment.replaceAll('-', '--'))
    .join('-');
}

export function workloadEndpointSpec(object: ObjectMaker) {
  const nat = object({ internalIP: text, externalIP: text });
  const port = object({
    name: text,
    protocol: z.union([z.string(), z.number()]),
    port: z.number().int(),
    hostPort: z.number().int().optional(),
    hostIP: optionalText,
  });
  const shape = object({
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
  return across(shape, (spec, refuse) => {
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
  });
}
