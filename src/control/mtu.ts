/** Which MTU the tunnel device gets: the first that is set, in the order of DESIGN's node agent, else the underlay's less the overhead. */
import { type OverlayMtu, overlayMtu, type UnderlayMtu } from '../ip/mtu.ts';
import type { FelixView } from './cluster-view.ts';

export interface MtuInputs {
  /** `--mtu` or FELIX_IPINIPMTU. */
  readonly configured: number | null;
  readonly felix: ReadonlyMap<string, FelixView>;
  readonly node: string;
  readonly underlay: UnderlayMtu;
  readonly mayUseUdp: boolean;
}

export function chooseMtu(inputs: MtuInputs): OverlayMtu {
  const set =
    inputs.configured ??
    inputs.felix.get(`node.${inputs.node}`)?.ipipMtu ??
    inputs.felix.get('default')?.ipipMtu;
  return set ? (set as OverlayMtu) : overlayMtu(inputs.underlay, inputs.mayUseUdp ? 'udp' : 'ipip');
}
