/** IPAM's values and the resources that allocation reads, typed, over the datastore port. */
import type { Clock } from '../base/clock.ts';
import { FailedError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { Random } from '../base/random.ts';
import type { Prefix } from '../ip/prefix.ts';
import {
  DEFAULT_IPAM_CONFIG,
  type Decoded,
  decodeAffinity,
  decodeBlock,
  decodeHandle,
  decodeIpamConfig,
  encodeAffinity,
  encodeBlock,
  encodeHandle,
  encodeIpamConfig,
} from '../model/ipam-values.ts';
import {
  affinityKey,
  affinityPrefix,
  blockKey,
  handleKey,
  IPAM_BLOCKS,
  IPAM_CONFIG,
  IPAM_HOSTS,
  kindPrefix,
  parseKey,
  resourceKey,
} from '../model/keys.ts';
import type {
  AffinityState,
  IpamAffinity,
  IpamBlock,
  IpamConfig,
  IpamHandle,
  Kind,
  ResourceOf,
} from '../model/resources.ts';
import { decodeStored } from '../model/stored.ts';
import type { Datastore, Entry, Revision } from '../store/datastore.ts';

/** A decoded value and the revision by which it may be replaced. */
export interface Stored<T> {
  readonly value: T;
  readonly revision: Revision;
}

export interface OwnAffinity extends Stored<IpamAffinity> {
  readonly node: string;
  readonly block: Prefix;
}

/** Attempts before a compare-and-swap is given up; Calico's own number. */
const MAX_ATTEMPTS = 100;
const MAX_PAUSE_MS = 64;

/** A value that this version cannot read: left alone, and reported by its key. */
export class IpamValueError extends FailedError {
  constructor(key: string, problem: string) {
    super('ERR_IPAM_VALUE', `the datastore's ${key} cannot be read: ${problem}`, {
      hint: '`tortie ipam check` lists what is wrong',
    });
  }
}

/** Somebody else was faster: read again and decide anew. */
export function isConflict(error: unknown): boolean {
  const code = error instanceof FailedError ? error.code : '';
  return code === 'ERR_STORE_CONFLICT' || code === 'ERR_STORE_EXISTS' || code === 'ERR_STORE_NOT_FOUND';
}

export interface IpamStoreOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

export class IpamStore {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly #store: Datastore;
  readonly #random: Random;

  constructor({ store, clock, random, logger }: IpamStoreOptions) {
    this.#store = store;
    this.clock = clock;
    this.#random = random;
    this.logger = logger;
  }

  /** Runs `attempt` until it meets no conflict, with pauses that grow and vary. */
  async retry<T>(what: string, attempt: () => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return await attempt();
      } catch (error) {
        if (!isConflict(error)) throw error;
        if (tries >= MAX_ATTEMPTS)
          throw new FailedError('ERR_IPAM_CONTENTION', `${what}: given up after ${tries} conflicts`, {
            cause: error,
            hint: 'try again; if it persists, something rewrites IPAM without pause',
          });
        await this.clock.sleep(this.#random.below(Math.min(2 ** tries, MAX_PAUSE_MS)));
      }
    }
  }

  #decoded<T>(entry: Entry | undefined, decode: (text: string) => Decoded<T>): Stored<T> | undefined {
    if (!entry) return undefined;
    const decoded = decode(entry.value);
    if (!decoded.ok) throw new IpamValueError(entry.key, decoded.problem);
    return { value: decoded.value, revision: entry.revision };
  }

  /** @throws IpamValueError */
  async block(block: Prefix): Promise<Stored<IpamBlock> | undefined> {
    return this.#decoded(await this.#store.get(blockKey(block)), decodeBlock);
  }

  async createBlock(block: Prefix, value: IpamBlock): Promise<Stored<IpamBlock>> {
    const { revision } = await this.#store.create(blockKey(block), encodeBlock(value));
    return { value, revision };
  }

  async updateBlock(block: Prefix, value: IpamBlock, expected: Revision): Promise<Stored<IpamBlock>> {
    const { revision } = await this.#store.update(blockKey(block), encodeBlock(value), expected);
    return { value, revision };
  }

  async deleteBlock(block: Prefix, expected: Revision): Promise<void> {
    await this.#store.delete(blockKey(block), expected);
  }

  /** Every block that can be read; the others are reported. */
  async blocks(): Promise<(Stored<IpamBlock> & { readonly prefix: Prefix })[]> {
    const { entries } = await this.#store.list(IPAM_BLOCKS);
    return entries.flatMap((entry) => {
      const parsed = parseKey(entry.key);
      if (parsed?.type !== 'block') return [];
      const decoded = decodeBlock(entry.value);
      if (!decoded.ok) return this.#skipped(entry.key, decoded.problem);
      return [{ value: decoded.value, revision: entry.revision, prefix: parsed.block }];
    });
  }

  /** Which blocks there are, whatever is in them. */
  async blockPrefixes(): Promise<Prefix[]> {
    const { entries } = await this.#store.list(IPAM_BLOCKS);
    return entries.flatMap(({ key }) => {
      const parsed = parseKey(key);
      return parsed?.type === 'block' ? [parsed.block] : [];
    });
  }

  #skipped(key: string, problem: string): [] {
    this.logger.warn({ key, problem }, 'a value in the datastore cannot be read and is skipped');
    return [];
  }

  async affinity(node: string, block: Prefix): Promise<Stored<IpamAffinity> | undefined> {
    return this.#decoded(await this.#store.get(affinityKey(node, block)), decodeAffinity);
  }

  createAffinity(node: string, block: Prefix, state: AffinityState): Promise<Entry> {
    return this.#store.create(affinityKey(node, block), encodeAffinity({ state, deleted: false }));
  }

  /** Gives the revision of the new state. */
  async setAffinity(
    node: string,
    block: Prefix,
    old: Stored<IpamAffinity>,
    state: AffinityState,
  ): Promise<Stored<IpamAffinity>> {
    const value = { ...old.value, state };
    const key = affinityKey(node, block);
    const { revision } = await this.#store.update(key, encodeAffinity(value), old.revision);
    return { value, revision };
  }

  /** Deletes it unless somebody changed it meanwhile, who then knows better. */
  async dropAffinity(node: string, block: Prefix, expected: Revision): Promise<void> {
    try {
      await this.#store.delete(affinityKey(node, block), expected);
    } catch (error) {
      if (!isConflict(error)) throw error;
    }
  }

  /** Those of one node, or of every node. */
  async affinities(node?: string): Promise<OwnAffinity[]> {
    const { entries } = await this.#store.list(node === undefined ? IPAM_HOSTS : affinityPrefix(node));
    return entries.flatMap((entry) => {
      const parsed = parseKey(entry.key);
      if (parsed?.type !== 'affinity') return [];
      const decoded = decodeAffinity(entry.value);
      if (!decoded.ok) return this.#skipped(entry.key, decoded.problem);
      const { node, block } = parsed;
      return [{ value: decoded.value, revision: entry.revision, node, block }];
    });
  }

  async handle(handle: string): Promise<Stored<IpamHandle> | undefined> {
    return this.#decoded(await this.#store.get(handleKey(handle)), decodeHandle);
  }

  /**
   * `change` gives what to store, or undefined to delete it. Where the handle is probably new it is not read first: if
   * it is there after all, creating it is refused, and it is read then.
   */
  changeHandle(
    handle: string,
    change: (old: IpamHandle | undefined) => IpamHandle | undefined,
    { probablyNew = false }: { readonly probablyNew?: boolean } = {},
  ): Promise<void> {
    const key = handleKey(handle);
    let unread = probablyNew;
    return this.retry(`counting addresses of handle ${handle}`, async () => {
      const old = unread ? undefined : await this.handle(handle);
      unread = false;
      const value = change(old?.value);
      if (!old) {
        if (value) await this.#store.create(key, encodeHandle(value));
      } else if (value) await this.#store.update(key, encodeHandle(value), old.revision);
      else await this.#store.delete(key, old.revision);
    });
  }

  /** The configuration; written with its defaults at the first allocation, as Calico does. */
  async config(options: { create?: boolean } = {}): Promise<IpamConfig> {
    const entry = await this.#store.get(IPAM_CONFIG);
    if (entry) return this.#decoded(entry, decodeIpamConfig)?.value ?? DEFAULT_IPAM_CONFIG;
    if (options.create)
      await this.#store.create(IPAM_CONFIG, encodeIpamConfig(DEFAULT_IPAM_CONFIG)).catch((error) => {
        if (!isConflict(error)) throw error;
      });
    return DEFAULT_IPAM_CONFIG;
  }

  changeConfig(change: (old: IpamConfig) => IpamConfig): Promise<IpamConfig> {
    return this.retry('changing the IPAM configuration', async () => {
      const entry = await this.#store.get(IPAM_CONFIG);
      const old = this.#decoded(entry, decodeIpamConfig)?.value ?? DEFAULT_IPAM_CONFIG;
      const value = change(old);
      if (entry) await this.#store.update(IPAM_CONFIG, encodeIpamConfig(value), entry.revision);
      else await this.#store.create(IPAM_CONFIG, encodeIpamConfig(value));
      return value;
    });
  }

  /** Nothing is given while the cluster is locked, as for a migration of its datastore. */
  async requireReady(): Promise<void> {
    const entry = await this.#store.get(resourceKey('ClusterInformation', 'default'));
    const decoded = entry && decodeStored('ClusterInformation', entry.value);
    if (!decoded?.ok || decoded.resource.spec.datastoreReady !== false) return;
    throw new FailedError(
      'ERR_DATASTORE_LOCKED',
      'the cluster is locked (ClusterInformation default has datastoreReady: false): no address is given',
      {
        hint: `wait, or unlock it: tortie patch clusterinformation default -p '{"spec":{"datastoreReady":true}}'`,
      },
    );
  }

  async resource<K extends Kind>(kind: K, name: string): Promise<ResourceOf<K> | undefined> {
    const entry = await this.#store.get(resourceKey(kind, name));
    if (!entry) return undefined;
    const decoded = decodeStored(kind, entry.value);
    if (!decoded.ok) throw new IpamValueError(entry.key, decoded.problem);
    return decoded.resource;
  }

  async resources<K extends Kind>(kind: K): Promise<ResourceOf<K>[]> {
    const { entries } = await this.#store.list(kindPrefix(kind));
    return entries.flatMap((entry) => {
      const decoded = decodeStored(kind, entry.value);
      return decoded.ok ? [decoded.resource] : this.#skipped(entry.key, decoded.problem);
    });
  }
}
