/** Resources, printed and read again; schemas, fed with anything. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parse as parseYaml } from 'yaml';
import { InvalidError } from '../../src/base/errors.ts';
import { yaml } from '../../src/cli/output/yaml.ts';
import { formatIpv4 } from '../../src/ip/ipv4.ts';
import { formatPrefix, prefixOf } from '../../src/ip/prefix.ts';
import { decodeResource } from '../../src/model/decode.ts';
import { encodeStored, goJson, type Json, printable } from '../../src/model/encode.ts';
import { KINDS } from '../../src/model/kind-names.ts';
import { parseManifest } from '../../src/model/manifest.ts';
import { API_VERSION, type Resource } from '../../src/model/resources.ts';
import { rewriteStored } from '../../src/model/rewrite.ts';
import { decodeStored } from '../../src/model/stored.ts';
import { toV1 } from '../../src/model/v1.ts';

const bytes = (text: string) => new TextEncoder().encode(text);
const name = fc.stringMatching(/^[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?$/);
const mapOf = (value: fc.Arbitrary<string>) =>
  fc.dictionary(fc.stringMatching(/^[a-z][a-z0-9]{0,8}$/), value, { minKeys: 1, maxKeys: 3 });
// A label's value is restricted as in Kubernetes, an annotation's is any text.
const labels = mapOf(fc.stringMatching(/^([A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?)?$/));
const metadata = fc.record({ name, labels, annotations: mapOf(fc.string()) }, { requiredKeys: ['name'] });
const ipv4Text = fc.nat(0xffff_ffff).map(formatIpv4);

const pool = fc
  .record({
    metadata,
    address: fc.integer({ min: 0x0a00_0000, max: 0x0aff_ffff }),
    length: fc.integer({ min: 8, max: 26 }),
    spec: fc.record(
      {
        ipipMode: fc.constantFrom('Always', 'CrossSubnet', 'Never'),
        natOutgoing: fc.boolean(),
        disabled: fc.boolean(),
        nodeSelector: fc.constantFrom('all()', 'zone == "a" && !has(x)', ''),
        blockSize: fc.integer({ min: 26, max: 32 }),
        allowedUses: fc.constantFrom(['Tunnel'], ['Workload'], ['Workload', 'Tunnel']),
      },
      { requiredKeys: [] },
    ),
  })
  .map(({ metadata, address, length, spec }) => ({
    kind: 'IPPool' as const,
    apiVersion: API_VERSION,
    metadata,
    spec: { cidr: formatPrefix(prefixOf(address, length)), ...spec },
  }));

const node = fc
  .record({
    metadata,
    bgp: fc.record(
      {
        ipv4Address: fc.tuple(ipv4Text, fc.nat(32)).map(([address, length]) => `${address}/${length}`),
        asNumber: fc.nat(0xffff_ffff),
        ipv4IPIPTunnelAddr: ipv4Text,
      },
      { requiredKeys: ['ipv4Address'] },
    ),
  })
  .map(({ metadata, bgp }) => ({ kind: 'Node' as const, apiVersion: API_VERSION, metadata, spec: { bgp } }));

/** What the schema makes of it: with all defaults. */
function decoded(value: { kind: 'IPPool' | 'Node' }): Resource {
  const result = decodeResource(value.kind, value, 'strict');
  if (!result.ok) throw new Error(JSON.stringify(result.problems));
  return result.resource;
}

test('printed as YAML, JSON or stored, a resource reads back as itself', async () => {
  await fc.assert(
    fc.asyncProperty(fc.oneof(pool, node), async (value) => {
      const resource = decoded(value);
      for (const text of [yaml(printable(resource)), goJson(printable(resource), 2)]) {
        const [document] = await parseManifest(bytes(text));
        expect(document?.decoded).toEqual({ ok: true, resource });
      }
      expect(decodeStored(value.kind, encodeStored(resource))).toEqual({ ok: true, resource });
    }),
    { numRuns: 60 },
  );
});

test('v3 to v1 and back changes nothing that v1 can say', async () => {
  await fc.assert(
    fc.asyncProperty(fc.oneof(pool, node), async (value) => {
      const v1 = toV1(decoded(value));
      const [document] = await parseManifest(bytes(yaml(v1 as Json)));
      if (!document?.decoded.ok) throw new Error(JSON.stringify(document));
      expect(toV1(document.decoded.resource)).toEqual(
        v1?.kind === 'node'
          ? { ...v1, metadata: { ...(v1.metadata as object), name: value.metadata.name } }
          : v1,
      );
    }),
    { numRuns: 60 },
  );
});

test('our YAML is read back by a YAML library, in versions 1.1 and 1.2', () => {
  // The library's 1.1 reading takes `E0` and `.` for numbers without digits (NaN). Go and YAML 1.1 do not.
  const misread = /^[-+]?(?:\._*|[eE][-+]?[0-9]+|\._*[eE][-+]?[0-9]+)$/;
  const key = fc.oneof(
    fc.string().filter((text) => !misread.test(text)),
    fc.constantFrom('yes', '1', '~', '- a', 'a: b', '0x1f', '1_000', '12:30'),
  );
  const leaf = fc.oneof(key, fc.integer(), fc.boolean(), fc.constant(null));
  const { value } = fc.letrec<{ value: Json }>((tie) => ({
    value: fc.oneof({ depthSize: 'small' }, leaf, fc.array(tie('value')), fc.dictionary(key, tie('value'))),
  }));
  fc.assert(
    fc.property(value, (written) => {
      const plain = JSON.parse(JSON.stringify(written)) as unknown;
      for (const version of ['1.1', '1.2'] as const)
        expect(parseYaml(yaml(plain as Json), { version, uniqueKeys: false })).toEqual(plain);
    }),
    { numRuns: 300 },
  );
});

test('schemas never throw, and say why they refuse', () => {
  const damaged = fc
    .oneof(pool, node)
    .chain((value) =>
      fc.tuple(fc.constant(value), fc.constantFrom('metadata', 'spec', 'kind', 'apiVersion'), fc.jsonValue()),
    );
  fc.assert(
    fc.property(fc.constantFrom(...KINDS), fc.jsonValue(), damaged, (kind, anything, [value, key, wrong]) => {
      for (const reading of ['strict', 'tolerant'] as const)
        for (const input of [
          anything,
          { ...value, [key]: wrong },
          { ...value, spec: { ...value.spec, cidr: wrong } },
        ]) {
          const result = decodeResource(kind, input, reading);
          if (!result.ok) expect(result.problems.every(({ reason }) => reason !== '')).toBe(true);
        }
    }),
    { numRuns: 300 },
  );
});

test('stored values never make the reader throw', () => {
  const near = fc.oneof(pool, node).chain((value) => {
    const text = JSON.stringify(value);
    return fc
      .tuple(fc.nat(text.length), fc.nat(text.length), fc.string())
      .map(([a, b, x]) => text.slice(0, a) + x + text.slice(b));
  });
  fc.assert(
    fc.property(fc.constantFrom(...KINDS), fc.oneof(fc.string(), fc.json(), near), (kind, text) => {
      const stored = decodeStored(kind, text);
      if (!stored.ok) expect(stored.problem).not.toBe('');
    }),
    { numRuns: 500 },
  );
  expect(decodeStored('IPPool', `${'['.repeat(200_000)}${']'.repeat(200_000)}`).ok).toBe(false);
  expect(decodeStored('Node', '{"kind":"Node","__proto__":{"spec":{}}}').ok).toBe(false);
});

test('any text is a manifest or an InvalidError, never a crash', async () => {
  const text = fc.oneof(fc.string(), fc.json(), fc.stringMatching(/^[-a-z0-9:{}[\]&*"' \n#|>!]{0,60}$/));
  await fc.assert(
    fc.asyncProperty(text, async (input) => {
      try {
        await parseManifest(bytes(input));
      } catch (error) {
        expect(error).toBeInstanceOf(InvalidError);
      }
    }),
    { numRuns: 400 },
  );
});

test('rewriting keeps what we do not know, large numbers too', () => {
  const unknown = fc.dictionary(
    fc.stringMatching(/^future[a-z]{1,5}$/),
    fc.oneof(fc.string(), fc.boolean(), fc.nat()),
  );
  fc.assert(
    fc.property(pool, unknown, fc.bigInt({ min: 2n ** 53n, max: 2n ** 64n - 1n }), (value, fields, large) => {
      const text = JSON.stringify({ ...value, spec: { ...value.spec, ...fields } }).replace(
        /}$/,
        `,"large":${large}}`,
      );
      const rewritten = rewriteStored(text, (object) => object);
      expect(JSON.parse(rewritten)).toEqual(JSON.parse(text));
      expect(rewritten).toContain(`"large":${large}`);
    }),
  );
});
