/** What a plan of the lab is made of: hosts with what is inside them, and links between two. */

/** The interface by which a node or the internet host is in the fabric, and a workload at its node. */
export const HOST_INTERFACE = 'eth0';

/** As a link's end: not in a namespace of the lab's, but where the command runs. */
export const MACHINE = 'this machine';

export interface LinkEnd {
  /** Of the lab, or MACHINE. */
  readonly host: string;
  readonly interface: string;
}

/** A veth pair. */
export interface LinkPlan {
  readonly ends: readonly [LinkEnd, LinkEnd];
}

export interface BridgePlan {
  readonly name: string;
  readonly ports: readonly string[];
  /** Ports that reach only ports that are not among these: the nodes', where the profile has no common link. */
  readonly isolated: readonly string[];
}

export interface HostPlan {
  readonly host: string;
  readonly namespace: string;
  /** Below /proc/sys, in order. */
  readonly sysctls: readonly (readonly [path: string, value: string])[];
  readonly bridges: readonly BridgePlan[];
  /** Interfaces that carry an address; every interface of a link is brought up with or without one. */
  readonly addresses: readonly (readonly [device: string, address: string])[];
  /** As `ip route replace` takes them. */
  readonly routes: readonly string[];
  readonly ruleset: string | null;
}

export function link(host: string, device: string, otherHost: string, otherDevice: string): LinkPlan {
  return {
    ends: [
      { host, interface: device },
      { host: otherHost, interface: otherDevice },
    ],
  };
}
