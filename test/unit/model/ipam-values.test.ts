import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseExactJson, stringifyExactJson } from '../../../src/model/exact-json.ts';
import {
  allocationsOf,
  blockOwner,
  decodeAffinity,
  decodeBlock,
  decodeHandle,
  decodeIpamConfig,
  encodeAffinity,
  encodeBlock,
  encodeHandle,
  encodeIpamConfig,
} from '../../../src/model/ipam-values.ts';
import { parseKey } from '../../../src/model/keys.ts';

interface Step {
  put?: Record<string, string>;
}

/** Every IPAM value in the recorded sessions of Calico. */
function recorded(): [string, string][] {
  return ['ipam.json', 'ipam-borrow.json'].flatMap((name) => {
    const file = join(import.meta.dirname, '../../golden', name);
    const steps = JSON.parse(readFileSync(file, 'utf8')) as Step[];
    return steps.flatMap((step) => Object.entries(step.put ?? {}));
  });
}

function rewritten(key: string, text: string): string | undefined {
  switch (parseKey(key)?.type) {
    case 'block': {
      const decoded = decodeBlock(text);
      return decoded.ok ? encodeBlock(decoded.value) : decoded.problem;
    }
    case 'affinity': {
      const decoded = decodeAffinity(text);
      return decoded.ok ? encodeAffinity(decoded.value) : decoded.problem;
    }
    case 'handle': {
      const decoded = decodeHandle(text);
      return decoded.ok ? encodeHandle(decoded.value) : decoded.problem;
    }
    case 'ipam-config': {
      const decoded = decodeIpamConfig(text);
      return decoded.ok ? encodeIpamConfig(decoded.value) : decoded.problem;
    }
    default:
      return undefined;
  }
}

const BLOCK =
  '{"cidr":"10.0.0.0/30","affinity":"host:node1","allocations":[0,null,null,null],"unallocated":[1,2,3],"attributes":[{"handle_id":"h","secondary":{"node":"node1"}}],"sequenceNumber":1795386994453962257,"sequenceNumberForAllocation":{"0":1795386994453962256},"deleted":false}';

function block(text: string) {
  const decoded = decodeBlock(text);
  if (!decoded.ok) throw new Error(decoded.problem);
  return decoded.value;
}

test('what Calico wrote is written back byte for byte', () => {
  const values = recorded().filter(([key]) => key.includes('/ipam/'));
  expect(values.length).toBeGreaterThan(20);
  for (const [key, text] of values) expect(rewritten(key, text)).toBe(text);
});

test('sequence numbers beyond 2^53 and fields that we do not know survive a rewrite', () => {
  const text = BLOCK.replace('"deleted":false}', '"deleted":false,"new":{"big":9007199254740993,"s":"1"}}');
  expect(encodeBlock(block(text))).toBe(text);
  expect(block(text).sequenceNumber).toBe(1795386994453962257n);
  const owned = '{"handle_id":"h","secondary":null,"future":18446744073709551615}';
  const attributed = BLOCK.replace(/\{"handle_id".*?\}\}/, owned);
  expect(encodeBlock(block(attributed))).toContain(owned);
});

test('values of old versions are understood', () => {
  expect(decodeAffinity('')).toEqual({ ok: true, value: { state: 'confirmed', deleted: false } });
  expect(decodeAffinity('{}')).toEqual({ ok: true, value: { state: 'confirmed', deleted: false } });
  const old = block(
    BLOCK.replace('"affinity":"host:node1"', '"hostAffinity":"node7","strictAffinity":false'),
  );
  expect(blockOwner(old)).toBe('node7');
  // Kept as it was, the old field would make node7 the owner again once the affinity is released.
  expect(encodeBlock({ ...old, affinity: null })).not.toContain('node7');
  expect(
    block(BLOCK.replace(/\[\{"handle.*?\}\}\]/, 'null').replace('[0,null', '[null,null')).attributes,
  ).toEqual([]);
});

test.each([
  ['text', 'hello', /JSON/],
  ['a list', '[]', /expected an object/],
  ['host bits', BLOCK.replace('10.0.0.0/30', '10.0.0.1/30'), /cidr/],
  ['too few ordinals', BLOCK.replace('[0,null,null,null]', '[0]'), /allocations: expected 4 entries/],
  ['an index without attributes', BLOCK.replace('[0,null', '[1,null'), /allocations\[0\]: expected/],
  ['an ordinal outside', BLOCK.replace('[1,2,3]', '[1,2,4]'), /unallocated\[2\]: expected/],
  ['a negative sequence', BLOCK.replace('":1795386994453962257', '":-1795386994453962257'), /sequenceNumber/],
])('a block that is %s is refused with its path', (_what, text, problem) => {
  const decoded = decodeBlock(text);
  expect(decoded.ok ? undefined : decoded.problem).toMatch(problem);
});

test('exact JSON: only long integers outside strings become bigint', () => {
  const text =
    '{"a":12345678901234567,"b":"12345678901234567 \\" 1","c":0.1234567890123456,"d":1e2,"e":[-3]}';
  expect(parseExactJson(text)).toEqual({
    a: 12345678901234567n,
    b: '12345678901234567 " 1',
    c: 0.1234567890123456,
    d: 100,
    e: [-3],
  });
  expect(stringifyExactJson({ a: 1n, b: undefined, c: ['x', null, 2] })).toBe('{"a":1,"c":["x",null,2]}');
});

test('the addresses of a block', () => {
  expect(allocationsOf(block(BLOCK))).toEqual([
    { ordinal: 0, address: 0x0a000000, attributes: { handle_id: 'h', secondary: { node: 'node1' } } },
  ]);
});
