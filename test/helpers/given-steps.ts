/**
 * Plays the steps of the recordings that Calico's IPAM library did with ours, on the state that Calico left: what is
 * written and deleted must be the same, field by field. Which block a node picks is free, so new blocks are compared
 * under Calico's names; sequence numbers start from the clock.
 */
import { expect } from 'vitest';
import { ipv4 } from '../../src/ip/ipv4.ts';
import { parseExactJson, stringifyExactJson } from '../../src/model/exact-json.ts';
import type { Datastore } from '../../src/store/datastore.ts';
import { allocatorOn } from './ipam.ts';
import { readRecording, type Step } from './recordings.ts';

type GivenStep = Step & { readonly given?: readonly string[] };
type Values = ReadonlyMap<string, string>;

async function perform(store: Datastore, [what = '', ...rest]: readonly string[]): Promise<void> {
  const allocator = allocatorOn(store);
  const [first = '', second = '', handle = '', pod = ''] = rest;
  if (what === 'tunnel') await allocator.assignTunnelAddress(first);
  else if (what === 'handle') await allocator.releaseByHandle(first);
  else if (what === 'removehost') await allocator.releaseAffinities(first, 'all');
  else if (what === 'host') await allocator.releaseAffinities(first, second === 'empty' ? 'empty' : 'all');
  else if (what === 'assign')
    await allocator.assignMany(
      { node: first, handle, attributes: { namespace: 'default', pod } },
      Number(second),
    );
  else if (what === 'assignip')
    await expect(
      allocator.assign({ node: first, handle, attributes: {}, address: ipv4(second) }),
    ).rejects.toThrow(/is in use/);
  else throw new Error(`the recording has a step that this test does not know: ${what}`);
}

function cidrsOfNewBlocks(before: Values, keys: Iterable<string>): string[] {
  return [...keys]
    .filter((key) => key.includes('/assignment/') && !before.has(key))
    .map((key) => (key.split('/').at(-1) ?? '').replace('-', '/'))
    .sort();
}

/** The value with sequence numbers hidden. */
function steady(value: string): string {
  return stringifyExactJson(
    parseExactJson(
      value
        .replace(/("sequenceNumber":)\d+/, '$10')
        .replace(
          /("sequenceNumberForAllocation":)(\{[^}]*\})/,
          (_, name, map) => name + map.replace(/:\d+/g, ':0'),
        ),
    ),
  );
}

/** What a step put and deleted; `rename` gives blocks other names. */
function changes(before: Values, after: Values, rename: (text: string) => string): Record<string, string> {
  const put = [...after].filter(([key, value]) => before.get(key) !== value);
  const deleted = [...before.keys()].filter((key) => !after.has(key)).map((key) => [key, 'deleted'] as const);
  return Object.fromEntries(
    [...put, ...deleted].map(([key, value]) => [
      rename(key),
      value === 'deleted' ? value : rename(steady(value)),
    ]),
  );
}

function applied(before: Values, { put = {}, del = [] }: Step): Map<string, string> {
  const after = new Map([...before, ...Object.entries(put)]);
  for (const key of del) after.delete(key);
  return after;
}

/** Where a request spans blocks, Calico's handle counts what was asked for; ours what was given. */
function withoutSpanningCounts(all: Record<string, string>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(all).map(([key, value]) => [
      key,
      key.includes('/handle/') && (value.match(/:\d+/g) ?? []).length > 1
        ? value.replace(/:\d+/g, ':0')
        : value,
    ]),
  );
}

async function check(before: Values, step: GivenStep, store: Datastore): Promise<void> {
  for (const [key, value] of before) await store.create(key, value);
  await perform(store, step.given ?? []);
  const { entries } = await store.list('/calico/');
  const ours = new Map(entries.map(({ key, value }) => [key, value] as const));
  const wanted = applied(before, step);
  const theirNames = cidrsOfNewBlocks(before, wanted.keys());
  const ourNames = cidrsOfNewBlocks(before, ours.keys());
  expect(ourNames).toHaveLength(theirNames.length);
  const numbered = (names: readonly string[]) => (text: string) =>
    names.reduce(
      (result, name, index) =>
        result.replaceAll(name, `NEW${index}`).replaceAll(name.replace('/', '-'), `NEW${index}`),
      text,
    );
  expect(withoutSpanningCounts(changes(before, ours, numbered(ourNames)))).toEqual(
    withoutSpanningCounts(changes(before, wanted, numbered(theirNames))),
  );
}

/** Checks every step of one recording, each on a datastore that `empty` gives; how many there were. */
export async function playGiven(name: string, empty: () => Promise<Datastore>): Promise<number> {
  let state: Values = new Map();
  let checked = 0;
  for (const step of readRecording(name) as readonly GivenStep[]) {
    if (step.given && step.given[0] !== 'cfg') {
      await check(state, step, await empty());
      checked++;
    }
    state = applied(state, step);
  }
  return checked;
}
