/** Where verify listens and sends: the namespaces of a lab's hosts, and the fabric's ends of the nodes' links. */
import { namespaceName, namespacePath } from './names.ts';
import { FABRIC, type Topology } from './topology.ts';

/** An interface in the network namespace at a path. */
export interface PortPlace {
  readonly netnsPath: string;
  readonly interface: string;
}

/** A path or an interface that is not there is no error here: nothing is seen there, and that is the finding. */
export interface LabPlaces {
  /** Of a workload or the internet host. */
  namespace(host: string): string;
  /** The other end of a node's link, as the fabric has it. */
  port(node: string): PortPlace;
}

/** Of a lab that `lab up` made. */
export function labPlaces({ name }: Topology): LabPlaces {
  const namespace = (host: string) => namespacePath(namespaceName(name, host));
  // In the fabric a node's port has the node's name (plan.ts).
  return { namespace, port: (node) => ({ netnsPath: namespace(FABRIC), interface: node }) };
}
