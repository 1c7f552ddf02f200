/** What `ip -json` prints, as far as we read it. */
import {
  type ForeignRoute,
  type HostAddress,
  type HostLink,
  type HostRoute,
  ROUTE_PROTOCOL,
} from '../control/ports.ts';
import { parseIpv4 } from '../ip/ipv4.ts';
import { formatPrefix, type Prefix, parseInterfaceAddress, prefixOf } from '../ip/prefix.ts';

interface LinkJson {
  readonly ifindex: number;
  readonly ifname: string;
  readonly flags?: readonly string[];
  readonly mtu: number;
  readonly linkinfo?: { readonly info_kind?: string };
  readonly addr_info?: readonly {
    readonly family: string;
    readonly local?: string;
    readonly prefixlen: number;
  }[];
}

interface RouteJson {
  readonly type?: string;
  readonly dst: string;
  readonly gateway?: string;
  readonly dev?: string;
  readonly protocol?: string;
  readonly metric?: number;
  readonly flags?: readonly string[];
}

export type LinkFacts = Omit<HostLink, 'reversePathFilter'>;

/** `ip -details -json address show` */
export function parseLinks(json: string): { links: LinkFacts[]; addresses: HostAddress[] } {
  const list = JSON.parse(json || '[]') as readonly LinkJson[];
  // `ip address show dev X` prints an empty object for every interface that is not X.
  const present = list.filter((link) => link.ifname !== undefined);
  const links = present.map((link) => ({
    name: link.ifname,
    index: link.ifindex,
    mtu: link.mtu,
    up: link.flags?.includes('UP') ?? false,
    kind: link.linkinfo?.info_kind ?? '',
  }));
  const addresses = present.flatMap((link) =>
    (link.addr_info ?? []).flatMap((info): HostAddress[] => {
      const address = info.family === 'inet' && info.local ? parseIpv4(info.local) : undefined;
      return address === undefined ? [] : [{ device: link.ifname, address, length: info.prefixlen }];
    }),
  );
  return { links, addresses };
}

/**
 * `ip -json route show table main`, parted into ours and others'. Where `ip` was asked for one protocol it does
 * not print it again: then the caller says which it was.
 */
export function parseRoutes(
  json: string,
  protocolAsked?: number,
): { own: Map<string, HostRoute>; foreign: ForeignRoute[] } {
  const own = new Map<string, HostRoute>();
  const foreign: ForeignRoute[] = [];
  for (const route of JSON.parse(json || '[]') as readonly RouteJson[]) {
    const prefix = parseDestination(route.dst);
    if (!prefix) continue;
    if (Number(route.protocol ?? protocolAsked) !== ROUTE_PROTOCOL) foreign.push(foreignRoute(prefix, route));
    else own.set(formatPrefix(prefix), ownRoute(prefix, route));
  }
  return { own, foreign };
}

function parseDestination(text: string): Prefix | undefined {
  if (text === 'default') return prefixOf(0, 0);
  const parsed = parseInterfaceAddress(text);
  return parsed && prefixOf(parsed.address, parsed.length);
}

function foreignRoute(prefix: Prefix, route: RouteJson): ForeignRoute {
  return {
    prefix,
    via: (route.gateway && parseIpv4(route.gateway)) || null,
    device: route.dev ?? null,
    metric: route.metric ?? 0,
  };
}

function ownRoute(prefix: Prefix, route: RouteJson): HostRoute {
  const device = route.dev ?? '';
  const via = route.gateway ? parseIpv4(route.gateway) : undefined;
  if (route.type === 'blackhole') return { type: 'blackhole', prefix };
  if (via === undefined) return { type: 'workload', prefix, device };
  return { type: route.flags?.includes('onlink') ? 'encapsulated' : 'plain', prefix, via, device };
}
