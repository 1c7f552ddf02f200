/** What a manifest may not be: each is refused with one clear error, at once, and nothing of it gets through. */
import { describe, expect, test } from 'vitest';
import { InvalidError } from '../../../src/base/errors.ts';
import { type ManifestDocument, parseManifest } from '../../../src/model/manifest.ts';
import { problemText } from '../../../src/model/problem.ts';

const parse = (text: string) => parseManifest(new TextEncoder().encode(text));

async function refusal(text: string | Uint8Array): Promise<InvalidError> {
  const bytes = typeof text === 'string' ? new TextEncoder().encode(text) : text;
  const error = await parseManifest(bytes).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(InvalidError);
  expect((error as InvalidError).exitCode).toBe(3);
  return error as InvalidError;
}

const problems = ({ decoded }: ManifestDocument) => (decoded.ok ? [] : decoded.problems.map(problemText));

const pool = (spec: string, name = 'p') =>
  `{"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "${name}"}, "spec": {${spec}}}`;

describe('a manifest that cannot be read', () => {
  test('is binary', async () => {
    expect((await refusal(new Uint8Array([0x7f, 0x45, 0x4c, 0x46, 0, 1, 2, 0xff]))).message).toContain(
      'binary',
    );
    expect((await refusal('kind: "IPPool"\0')).message).toContain('binary');
  });

  test('is a document of 10 MB', async () => {
    expect((await refusal(`kind: ${'x'.repeat(10_000_000)}`)).message).toMatch(
      /at most \d+ bytes, got a document of/,
    );
  });

  test('has anchors that explode', async () => {
    const lines = ['a0: &a0 [x, x, x, x, x, x, x, x, x]'];
    for (let i = 1; i <= 9; i++)
      lines.push(
        `a${i}: &a${i} [${Array(9)
          .fill(`*a${i - 1}`)
          .join(', ')}]`,
      );
    expect((await refusal(lines.join('\n'))).message).toMatch(/alias/i);
  });

  test('is nested without end, as JSON and as YAML', async () => {
    expect((await refusal(`${'['.repeat(100_000)}${']'.repeat(100_000)}`)).message).toMatch(/nest/);
    expect((await refusal(`a: ${'['.repeat(20_000)}`)).message).toMatch(/yaml/);
    expect((await refusal(pool(`"x": ${'{"a":'.repeat(100)}1${'}'.repeat(100)}`))).message).toMatch(/nest/);
  });

  test('says a key twice', async () => {
    expect((await refusal('kind: IPPool\nkind: Node')).message).toMatch(/unique/);
    expect((await refusal(pool('"cidr": "10.0.0.0/16", "cidr" : "10.1.0.0/16"'))).message).toMatch(
      /cidr.*twice/,
    );
    expect((await refusal(pool('"cidr": "10.0.0.0/16", "\\u0063idr": "10.1.0.0/16"'))).message).toMatch(
      /twice/,
    );
  });

  test('names every problem of every document, with its path', async () => {
    const error = await refusal(
      `${pool('"cidr": "10.0.0.1/16", "bogus": 1, "natOutgoing": "yes"')}\n---\n${pool('"cidr": [5]', 'q')}`,
    );
    expect(error.message).toBe(
      'error parsing document: field in document is not recognized or is in the wrong location: bogus',
    );
    expect(error.hint?.split('\n')).toEqual([
      expect.stringContaining("document 1 (IPPool p): spec.natOutgoing: cannot parse string 'yes'"),
      '  document 1 (IPPool p): spec.bogus: unknown field',
      "  document 1 (IPPool p): IPPool.Spec.CIDR = '10.0.0.0/16' (IPPool CIDR is not strictly masked)",
      expect.stringContaining("document 2 (IPPool q): spec.cidr: cannot parse list '[5]'"),
    ]);
  });
});

describe('values that are refused', () => {
  test('are named all at once', async () => {
    const [document] = await parse(
      pool(
        '"cidr": "169.254.0.0/27", "ipipMode": "Always", "vxlanMode": "CrossSubnet", "nodeSelector": "a ="',
        'P_',
      ),
    );
    expect(problems(document!)).toEqual([
      "IPPool.Spec.CIDR = '169.254.0.0/27' (IPPool CIDR overlaps with IPv4 Link Local range 169.254.0.0/16)",
      expect.stringMatching(/^IPPool\.Spec\.CIDR = '169\.254\.0\.0\/27' \(IP pool size is too small/),
      "IPPool.Spec.VXLANMode = 'CrossSubnet' (Cannot enable both VXLAN and IPIP on the same IPPool)",
      expect.stringContaining("IPPool.Spec.NodeSelector = 'a =' (expected a selector"),
      expect.stringContaining("Metadata.Name = 'P_' (name must consist of"),
    ]);
  });

  test('spoil only their own document', async () => {
    const documents = await parse(`${pool('"cidr": "10.0.0.0/33"')}\n---\n${pool('"cidr": "10.0.0.0/16"')}`);
    expect(documents.map(({ decoded }) => decoded.ok)).toEqual([false, true]);
  });

  test.each([
    [
      'IPIP on an IPv6 pool',
      'metadata: {cidr: "fd00::/64"}, spec: {ipip: {enabled: true}}',
      'not supported on an IPv6',
    ],
    [
      'a bad v1 mode',
      'metadata: {cidr: 10.0.0.0/16}, spec: {ipip: {mode: crosssubnet}}',
      "Mode = 'crosssubnet'",
    ],
    ['a v1 CIDR with host bits', 'metadata: {cidr: 10.0.0.1/16}', 'not strictly masked'],
    ['a v1 pool without CIDR', 'metadata: {}', "missing 'cidr'"],
    ['a v1 pool that is too small', 'metadata: {cidr: 10.0.0.0/28}', 'IP pool size is too small'],
  ])('%s', async (_, fields, expected) => {
    const [document] = await parse(`{apiVersion: v1, kind: ipPool, ${fields}}`);
    expect(problems(document!).join('\n')).toContain(expected);
  });

  test('an AS number beyond 32 bits, in each notation', async () => {
    for (const asNumber of ['4294967296', '"4294967296"', '"65536.1"', '-1', '1.5', '"x"']) {
      const text = `{apiVersion: v1, kind: node, metadata: {name: n}, spec: {bgp: {ipv4Address: 10.0.0.1, asNumber: ${asNumber}}}}`;
      expect((await refusal(text)).message).toContain('invalid AS Number format');
    }
  });
});

describe('a manifest in either dialect', () => {
  test('may be a list, a List, a <Kind>List, several documents, or nothing', async () => {
    const one = 'apiVersion: v1, kind: ipPool, metadata: {cidr: 10.0.0.0/16}';
    const two = 'apiVersion: v1, kind: ipPool, metadata: {cidr: 10.1.0.0/16}';
    for (const text of [
      `- {${one}}\n- {${two}}`,
      `kind: List\napiVersion: v1\nitems: [{${one}}, {${two}}]`,
      `kind: ipPoolList\napiVersion: v1\nitems: [{${one}}, {metadata: {cidr: 10.1.0.0/16}}]`,
      `---\n{${one}}\n--- # second\n{${two}}\n---\n# nothing\n`,
    ])
      expect((await parse(text)).map(({ name }) => name)).toEqual(['10-0-0-0-16', '10-1-0-0-16']);
    expect(await parse('')).toEqual([]);
  });

  test('keeps what looks like a separator inside of a value', async () => {
    const text =
      'apiVersion: projectcalico.org/v3\nkind: Node\nmetadata:\n  name: n\n  annotations:\n    note: |\n      ---\n      a\nspec: {}';
    const [document] = await parse(text);
    expect(document?.decoded.ok && document.decoded.resource.metadata.annotations).toEqual({
      note: '---\na\n',
    });
  });

  test('takes what get and convert print, nulls included', async () => {
    const [document] = await parse(
      'apiVersion: projectcalico.org/v3\nkind: Node\nmetadata:\n  creationTimestamp: null\n  name: n\nspec: {}\nstatus: {}',
    );
    expect(document?.decoded.ok).toBe(true);
  });
});

describe("scalars, as Calico's client reads them (calicoctl 3.31 was asked each)", () => {
  const node = (metadata: string, bgp = '') =>
    `{apiVersion: projectcalico.org/v3, kind: Node, metadata: {${metadata}}, spec: {bgp: {ipv4Address: 10.0.0.1/24${bgp}}}}`;

  const read = async (text: string) => {
    const [document] = await parse(text);
    if (!document?.decoded.ok) throw new Error(problems(document!).join());
    return document.decoded.resource;
  };

  test.each([
    'yes',
    'Yes',
    'YES',
    'y',
    'Y',
    'on',
    'On',
    'ON',
    'true',
    'True',
    'TRUE',
    '!!bool yes',
  ])('%s is true', async (word) => {
    const resource = await read(
      `{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: p}, spec: {cidr: 10.0.0.0/16, natOutgoing: ${word}}}`,
    );
    expect(resource.spec).toMatchObject({ natOutgoing: true });
  });

  test.each(['no', 'No', 'NO', 'n', 'N', 'off', 'Off', 'OFF', 'false'])('%s is false', async (word) => {
    const resource = await read(
      `{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: p}, spec: {cidr: 10.0.0.0/16, natOutgoing: ${word}}}`,
    );
    expect((resource.spec as { natOutgoing?: boolean }).natOutgoing ?? false).toBe(false);
  });

  test.each(["'yes'", '"on"', '1', '!!str yes', 'yEs'])('%s is no boolean', async (word) => {
    const error = await refusal(
      `{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: p}, spec: {cidr: 10.0.0.0/16, natOutgoing: ${word}}}`,
    );
    expect(error.message).toMatch(/cannot parse .* into field .*natOutgoing of type bool/);
  });

  test('a number or boolean where a text belongs is that text', async () => {
    const given =
      'a: true, b: 12, c: yes, d: 0777, e: 1_000, f: 1.0, g: 0x10, h: 1e3, i: .5, k: n, l: 2020-01-01, o: 0o17, p: "yes", t: -0, u: +5, v: 1.50, w: 0b11, z: 123456789012';
    const { metadata } = await read(node(`name: 12, labels: {${given}}`));
    expect(metadata).toMatchObject({
      name: '12',
      labels: {
        ...{ a: 'true', b: '12', c: 'true', d: '511', e: '1000', f: '1', g: '16', h: '1000', i: '0.5' },
        ...{
          k: 'false',
          l: '2020-01-01',
          o: '15',
          p: 'yes',
          t: '0',
          u: '5',
          v: '1.5',
          w: '3',
          z: '123456789012',
        },
      },
    });
    expect((await parse(node('name: no')))[0]).toMatchObject({ name: 'false' });
    expect((await parse('{"apiVersion": "v1", "kind": "node", "metadata": {"name": 7}}'))[0]?.name).toBe('7');
  });

  test('a number with a leading 0 is octal', async () => {
    expect((await read(node('name: n', ', asNumber: 010'))).spec).toMatchObject({ bgp: { asNumber: 8 } });
  });

  test('a number that would be written differently than given is refused, not bent', async () => {
    for (const number of ['12345678901234567890', '1e30', '0.00001'])
      expect((await refusal(node(`name: n, labels: {a: ${number}}`))).message).toMatch(/metadata.labels.a/);
  });

  test('a hundred thousand numbers for texts take no hundred thousand copies', async () => {
    const labels = Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`a${i}`, i]));
    const text = JSON.stringify({
      apiVersion: 'projectcalico.org/v3',
      kind: 'Node',
      metadata: { name: 'n', labels },
    });
    expect((await parse(text))[0]?.decoded.ok).toBe(true);
  });
});
