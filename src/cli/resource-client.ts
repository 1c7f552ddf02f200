/**
 * Resources on a datastore, with the rules of Calico's client: what create, apply, replace and delete keep, refuse
 * and write. Theory of operation: a decoded resource is completed (uid, creation time, the labels that Calico adds),
 * judged against what is stored, and written by compare-and-swap. `apply` creates, and where the object is there it
 * updates from the revision that it read, again after each conflict, at most MAX_ATTEMPTS times.
 */
import { FailedError, InvalidError } from '../base/errors.ts';
import { parseCidr } from '../model/cidr.ts';
import { encodeStored } from '../model/encode.ts';
import { kindPrefix, resourceKey } from '../model/keys.ts';
import { poolConflicts } from '../model/pool-conflicts.ts';
import { refusalText } from '../model/problem.ts';
import { API_VERSION, type IPPool, type Kind, type Resource, type ResourceOf } from '../model/resources.ts';
import { addedProblems, decodeStored } from '../model/stored.ts';
import type { Datastore, Entry, Revision } from '../store/datastore.ts';

export interface ResourceId {
  readonly kind: Kind;
  readonly name: string;
  readonly namespace?: string | undefined;
}

export interface ResourceList<K extends Kind> {
  readonly resources: readonly ResourceOf<K>[];
  readonly revision: Revision;
  /** Keys whose values could not be read, each with the reason. */
  readonly skipped: readonly string[];
}

/** Where new objects get their identity and time from; the commands' composition root fills it in. */
export interface Stamps {
  readonly uid: () => string;
  readonly now: () => Date;
}

const MAX_ATTEMPTS = 5;
const CLUSTER_INFORMATION: ResourceId = { kind: 'ClusterInformation', name: 'default' };

/** `IPPool(pool-1)`, `WorkloadEndpoint(default/node1-cni-w1-eth0)`. */
export function idText({ kind, name, namespace }: ResourceId): string {
  return kind === 'WorkloadEndpoint' ? `${kind}(${namespace ?? 'default'}/${name})` : `${kind}(${name})`;
}

export function idOf({ kind, metadata }: Resource): ResourceId {
  return { kind, name: metadata.name, namespace: metadata.namespace };
}

function doesNotExist(id: ResourceId): FailedError {
  return new FailedError(
    'ERR_RESOURCE_NOT_FOUND',
    `resource does not exist: ${idText(id)} with error: <nil>`,
  );
}

function alreadyExists(id: ResourceId): FailedError {
  return new FailedError('ERR_RESOURCE_EXISTS', `resource already exists: ${idText(id)}`);
}

function updateConflict(id: ResourceId): FailedError {
  return new FailedError('ERR_RESOURCE_CONFLICT', `update conflict: ${idText(id)}`);
}

export function hasCode(error: unknown, code: string): boolean {
  return error instanceof FailedError && error.code === code;
}

function keyOf({ kind, name, namespace }: ResourceId): string {
  return resourceKey(kind, name, namespace);
}

function withRevision<K extends Kind>(resource: ResourceOf<K>, revision: Revision): ResourceOf<K> {
  return { ...resource, metadata: { ...resource.metadata, resourceVersion: revision } };
}

export class ResourceClient {
  readonly #store: Datastore;
  readonly #stamps: Stamps;

  constructor(store: Datastore, stamps: Stamps) {
    this.#store = store;
    this.#stamps = stamps;
  }

  /** @throws FailedError ERR_RESOURCE_NOT_FOUND; InvalidError where the stored value makes no sense */
  async get<K extends Kind>(id: ResourceId & { readonly kind: K }): Promise<ResourceOf<K>> {
    const entry = id.name ? await this.#store.get(keyOf(id)) : undefined;
    if (!entry) throw doesNotExist(id);
    const stored = decodeStored(id.kind, entry.value);
    if (stored.ok) return withRevision(stored.resource, entry.revision);
    throw new InvalidError('ERR_STORED_VALUE', `${entry.key} holds no valid ${id.kind}: ${stored.problem}`, {
      hint: "'tortie apply' puts a good one in its place, 'tortie delete' removes it.",
    });
  }

  /** The value as stored, for changes that keep unknown fields. */
  async getEntry(id: ResourceId): Promise<Entry> {
    const entry = id.name ? await this.#store.get(keyOf(id)) : undefined;
    if (!entry) throw doesNotExist(id);
    return entry;
  }

  async list<K extends Kind>(kind: K, namespace?: string): Promise<ResourceList<K>> {
    const prefix = kindPrefix(kind);
    const { entries, revision } = await this.#store.list(
      namespace === undefined ? prefix : `${prefix}${namespace}/`,
    );
    const resources: ResourceOf<K>[] = [];
    const skipped: string[] = [];
    for (const entry of entries) {
      const stored = decodeStored(kind, entry.value);
      if (stored.ok) resources.push(withRevision(stored.resource, entry.revision));
      else skipped.push(`${entry.key}: ${stored.problem}`);
    }
    return { resources, revision, skipped };
  }

  /** The pool of a CIDR, whatever its name: v1 identifies pools so. */
  async poolOfCidr(cidr: string): Promise<IPPool | undefined> {
    const { resources } = await this.list('IPPool');
    return resources.find((pool) => pool.spec.cidr === cidr);
  }

  /** Names that contain a slash can only be CIDRs. */
  async resolve(id: ResourceId): Promise<ResourceId> {
    if (id.kind !== 'IPPool' || !parseCidr(id.name)) return id;
    const pool = await this.poolOfCidr(id.name);
    return pool ? idOf(pool) : id;
  }

  /** Calico's client writes ClusterInformation before its first object. */
  async initialize(): Promise<void> {
    if (await this.#store.get(keyOf(CLUSTER_INFORMATION))) return;
    const spec = { clusterGUID: this.#stamps.uid().replaceAll('-', ''), datastoreReady: true };
    const resource = {
      kind: CLUSTER_INFORMATION.kind,
      apiVersion: API_VERSION,
      metadata: { name: 'default' },
      spec,
    };
    try {
      await this.#store.create(
        keyOf(CLUSTER_INFORMATION),
        encodeStored(this.#stamped(resource as Resource, undefined)),
      );
    } catch (error) {
      if (!hasCode(error, 'ERR_STORE_EXISTS')) throw error;
    }
  }

  async create(resource: Resource, dryRun = false): Promise<void> {
    const id = idOf(resource);
    if (await this.#store.get(keyOf(id))) throw alreadyExists(id);
    const complete = this.#stamped(resource, undefined);
    await this.#judge(complete, undefined);
    if (dryRun) return;
    try {
      await this.#store.create(keyOf(id), encodeStored(complete));
    } catch (error) {
      throw hasCode(error, 'ERR_STORE_EXISTS') ? alreadyExists(id) : error;
    }
  }

  /** Puts the resource in place of the stored one, whose uid and creation time stay. */
  async replace(resource: Resource, dryRun = false): Promise<void> {
    const id = idOf(resource);
    const wanted = resource.metadata.resourceVersion;
    for (let attempt = 1; ; attempt++) {
      const entry = await this.#store.get(keyOf(id));
      if (!entry) throw doesNotExist(id);
      if (wanted && wanted !== entry.revision) throw updateConflict(id);
      const stored = decodeStored(resource.kind, entry.value);
      const before = stored.ok ? stored.resource : undefined;
      const complete = this.#stamped(resource, before);
      await this.#judge(complete, before);
      if (dryRun) return;
      try {
        await this.#store.update(keyOf(id), encodeStored(complete), entry.revision);
        return;
      } catch (error) {
        if (!hasCode(error, 'ERR_STORE_CONFLICT') && !hasCode(error, 'ERR_STORE_NOT_FOUND')) throw error;
        if (wanted || attempt === MAX_ATTEMPTS) throw updateConflict(id);
      }
    }
  }

  async apply(resource: Resource, dryRun = false): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await (attempt % 2 ? this.create(resource, dryRun) : this.replace(resource, dryRun));
        return;
      } catch (error) {
        const raced = hasCode(error, attempt % 2 ? 'ERR_RESOURCE_EXISTS' : 'ERR_RESOURCE_NOT_FOUND');
        if (!raced || attempt === 2 * MAX_ATTEMPTS) throw error;
      }
    }
  }

  /** Writes a value that was made from the entry by `rewriteStored`, if nobody else wrote meanwhile. */
  async rewrite(id: ResourceId, entry: Entry, value: string): Promise<void> {
    const before = decodeStored(id.kind, entry.value);
    const after = decodeStored(id.kind, value);
    if (!after.ok) throw new InvalidError('ERR_RESOURCE_REFUSED', after.problem);
    const added = addedProblems(id.kind, entry.value, value);
    if (added.length) throw new InvalidError('ERR_RESOURCE_REFUSED', refusalText(added));
    if (before.ok && before.resource.metadata.name !== after.resource.metadata.name)
      throw new InvalidError(
        'ERR_RESOURCE_REFUSED',
        'error with field Metadata.Name (it cannot be modified)',
      );
    await this.#judge(after.resource, before.ok ? before.resource : undefined);
    try {
      await this.#store.update(keyOf(id), value, entry.revision);
    } catch (error) {
      throw hasCode(error, 'ERR_STORE_CONFLICT') ? updateConflict(id) : error;
    }
  }

  async delete(id: ResourceId, wanted?: string): Promise<void> {
    if (!id.name) throw doesNotExist(id);
    try {
      await this.#store.delete(keyOf(id), wanted as Revision | undefined);
    } catch (error) {
      if (hasCode(error, 'ERR_STORE_NOT_FOUND')) throw doesNotExist(id);
      throw hasCode(error, 'ERR_STORE_CONFLICT') ? updateConflict(id) : error;
    }
  }

  #stamped(resource: Resource, before: Resource | undefined): Resource {
    const { namespace, labels, ...given } = resource.metadata;
    const now = () =>
      this.#stamps
        .now()
        .toISOString()
        .replace(/\.\d+Z$/, 'Z');
    const stamps = {
      uid: before?.metadata.uid ?? this.#stamps.uid(),
      creationTimestamp: before?.metadata.creationTimestamp ?? now(),
    };
    const metadata =
      resource.kind === 'WorkloadEndpoint'
        ? { namespace: namespace ?? 'default', labels: { ...labels, ...workloadLabels(resource) } }
        : { ...(labels && { labels }) };
    return { ...resource, metadata: { ...given, ...stamps, ...metadata } };
  }

  async #judge(resource: Resource, before: Resource | undefined): Promise<void> {
    if (resource.kind !== 'IPPool') return;
    const { resources } = await this.list('IPPool');
    const problems = poolConflicts(resource as IPPool, before as IPPool | undefined, resources);
    if (problems.length) throw new InvalidError('ERR_RESOURCE_REFUSED', refusalText(problems));
  }
}

/** Labels that Calico's client gives to every workload endpoint, for selectors. */
function workloadLabels({ metadata, spec }: Resource): Record<string, string> {
  const { orchestrator, serviceAccountName } = spec as { orchestrator: string; serviceAccountName?: string };
  return {
    'projectcalico.org/namespace': metadata.namespace ?? 'default',
    'projectcalico.org/orchestrator': orchestrator,
    ...(serviceAccountName ? { 'projectcalico.org/serviceaccount': serviceAccountName } : {}),
  };
}
