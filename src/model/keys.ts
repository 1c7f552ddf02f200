/** Calico's etcd v3 layout: which key holds what. Names are path segments; a prefix is written with `-` for `/`. */
import { formatPrefix, type Prefix, parsePrefix } from '../ip/prefix.ts';
import type { Kind } from './resources.ts';

export const ROOT = '/calico/';
export const RESOURCES = '/calico/resources/v3/projectcalico.org/';
export const IPAM = '/calico/ipam/v2/';
export const IPAM_BLOCKS = '/calico/ipam/v2/assignment/ipv4/block/';
export const IPAM_HOSTS = '/calico/ipam/v2/host/';
export const IPAM_HANDLES = '/calico/ipam/v2/handle/';
export const IPAM_CONFIG = '/calico/ipam/v2/config';

export const PLURAL: Readonly<Record<Kind, string>> = {
  IPPool: 'ippools',
  Node: 'nodes',
  WorkloadEndpoint: 'workloadendpoints',
  BGPConfiguration: 'bgpconfigurations',
  FelixConfiguration: 'felixconfigurations',
  ClusterInformation: 'clusterinformations',
  IPReservation: 'ipreservations',
};

const KIND_OF_PLURAL = new Map(Object.entries(PLURAL).map(([kind, plural]) => [plural, kind as Kind]));

/** `…/ippools/` : what to list or watch for one kind. */
export function kindPrefix(kind: Kind): string {
  return `${RESOURCES}${PLURAL[kind]}/`;
}

/** Namespaced kinds (WorkloadEndpoint) need the namespace. */
export function resourceKey(kind: Kind, name: string, namespace?: string): string {
  return kind === 'WorkloadEndpoint'
    ? `${kindPrefix(kind)}${namespace ?? 'default'}/${name}`
    : `${kindPrefix(kind)}${name}`;
}

function dashed(p: Prefix): string {
  return formatPrefix(p).replace('/', '-');
}

function undashed(text: string): Prefix | undefined {
  return parsePrefix(text, '-');
}

export function blockKey(block: Prefix): string {
  return `${IPAM_BLOCKS}${dashed(block)}`;
}

export function affinityPrefix(node: string): string {
  return `${IPAM_HOSTS}${node}/ipv4/block/`;
}

export function affinityKey(node: string, block: Prefix): string {
  return `${affinityPrefix(node)}${dashed(block)}`;
}

export function handleKey(handle: string): string {
  return `${IPAM_HANDLES}${handle}`;
}

export type ParsedKey =
  | { readonly type: 'resource'; readonly kind: Kind; readonly name: string; readonly namespace?: string }
  | { readonly type: 'block'; readonly block: Prefix }
  | { readonly type: 'affinity'; readonly node: string; readonly block: Prefix }
  | { readonly type: 'handle'; readonly handle: string }
  | { readonly type: 'ipam-config' };

/** What a key holds; undefined for keys of kinds that we do not have. */
export function parseKey(key: string): ParsedKey | undefined {
  if (key.startsWith(RESOURCES)) return parseResourceKey(key.slice(RESOURCES.length).split('/'));
  if (key === IPAM_CONFIG) return { type: 'ipam-config' };
  if (key.startsWith(IPAM_BLOCKS)) {
    const block = undashed(key.slice(IPAM_BLOCKS.length));
    return block && { type: 'block', block };
  }
  if (key.startsWith(IPAM_HOSTS)) {
    const [node, family, word, last, ...rest] = key.slice(IPAM_HOSTS.length).split('/');
    const block = family === 'ipv4' && word === 'block' && last && !rest.length ? undashed(last) : undefined;
    return block && node ? { type: 'affinity', node, block } : undefined;
  }
  if (key.startsWith(IPAM_HANDLES)) return { type: 'handle', handle: key.slice(IPAM_HANDLES.length) };
  return undefined;
}

function parseResourceKey(segments: readonly string[]): ParsedKey | undefined {
  const [plural = '', first = '', second] = segments;
  const kind = KIND_OF_PLURAL.get(plural);
  if (!kind || !first) return undefined;
  if (kind !== 'WorkloadEndpoint')
    return segments.length === 2 ? { type: 'resource', kind, name: first } : undefined;
  return second && segments.length === 3
    ? { type: 'resource', kind, name: second, namespace: first }
    : undefined;
}
