/** What `ip -json` prints, as far as we read it. */
import type { HostAddress, HostLink } from '../control/ports.ts';
import { parseIpv4 } from '../ip/ipv4.ts';

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
