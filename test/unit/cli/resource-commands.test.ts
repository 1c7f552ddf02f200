/** Commands on resources beyond what the recordings show: the v1 dialect, flags of our own, exit codes, files. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { inProcessClient, type Seen } from '../../helpers/recordings.ts';

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'tortie-commands-'));
});

afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

const tortie = (line: string | readonly string[], stdin = ''): Promise<Seen> =>
  inProcessClient(typeof line === 'string' ? line.split(' ') : line, stdin, `file://${root}/store`);

const keyFile = (key: string) => `${root}/store/calico/resources/v3/projectcalico.org/${key}`;
const stored = (key: string) => JSON.parse(readFileSync(keyFile(key), 'utf8'));

/** As on the page "Configuring IP-in-IP". */
const pagePool = (mode: string) => `apiVersion: v1
kind: ipPool
metadata:
  cidr: 192.168.0.0/16
spec:
  ipip:
    enabled: true
    mode: ${mode}
  nat-outgoing: true
`;

const v3Pool = (name: string, spec: string) =>
  `{"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "${name}"}, "spec": {${spec}}}`;

const node = (name: string, spec = '"bgp": {"ipv4Address": "10.0.2.15/24"}') =>
  `{"apiVersion": "projectcalico.org/v3", "kind": "Node", "metadata": {"name": "${name}"}, "spec": {${spec}}}`;

describe('v1 manifests', () => {
  test("the page's two commands, and what they store", async () => {
    for (const [mode, ipipMode] of [
      ['always', 'Always'],
      ['cross-subnet', 'CrossSubnet'],
    ] as const) {
      const seen = await tortie('apply -f -', pagePool(mode));
      expect(seen).toEqual({ exit: 0, stdout: "Successfully applied 1 'ipPool' resource(s)\n", stderr: '' });
      const pool = stored('ippools/192-168-0-0-16');
      expect(pool.spec).toEqual({
        cidr: '192.168.0.0/16',
        vxlanMode: 'Never',
        ipipMode,
        natOutgoing: true,
        blockSize: 26,
        nodeSelector: 'all()',
        allowedUses: ['Workload', 'Tunnel'],
        assignmentMode: 'Automatic',
      });
    }
  });

  test('mean the pool of that CIDR whatever its name, and leave its block size', async () => {
    await tortie('apply -f -', v3Pool('default-ipv4-ippool', '"cidr": "192.168.0.0/16", "blockSize": 28'));
    expect((await tortie('apply -f -', pagePool('cross-subnet'))).exit).toBe(0);
    expect(stored('ippools/default-ipv4-ippool').spec).toMatchObject({
      ipipMode: 'CrossSubnet',
      blockSize: 28,
    });
    expect((await tortie('get ippool 192.168.0.0/16 -o name')).stdout).toBe('ippool/default-ipv4-ippool\n');
    expect((await tortie('delete -f -', pagePool('always'))).stdout).toBe(
      "Successfully deleted 1 'ipPool' resource(s)\n",
    );
    expect((await tortie('get ippools -o name')).stdout).toBe('');
  });

  test('results print in v1 where that is asked for', async () => {
    await tortie('apply -f -', pagePool('cross-subnet'));
    expect((await tortie('get ippool -o wide --api-version v1')).stdout).toBe(
      'CIDR             NAT    IPIP   \n192.168.0.0/16   true   true   \n\n',
    );
    expect((await tortie('get ippool -o yaml --api-version=v1')).stdout).toBe(`- apiVersion: v1
  kind: ipPool
  metadata:
    cidr: 192.168.0.0/16
  spec:
    ipip:
      enabled: true
      mode: cross-subnet
    nat-outgoing: true
`);
    expect((await tortie('get ippool --api-version v2')).exit).toBe(2);
  });

  test('get nodes prints what the page prints', async () => {
    await tortie(
      'apply -f -',
      `${node('node1')}\n---\n${node('node2', '"bgp": {"ipv4Address": "10.0.2.10/32"}')}`,
    );
    expect((await tortie('get nodes --output=wide')).stdout).toBe(
      'NAME    ASN       IPV4           IPV6   \nnode1   (64512)   10.0.2.15/24          \nnode2   (64512)   10.0.2.10/32          \n\n',
    );
  });
});

describe('what is refused exits 3 and stores nothing', () => {
  test.each([
    ['an unknown field', v3Pool('p', '"cidr": "10.0.0.0/16", "colour": "red"')],
    ['host bits', v3Pool('p', '"cidr": "10.0.0.1/16"')],
    ['IPIP on IPv6', v3Pool('p', '"cidr": "fd00::/64", "ipipMode": "Always"')],
    ['a pool below its block size', v3Pool('p', '"cidr": "10.0.0.0/27"')],
    ['a bad mode', v3Pool('p', '"cidr": "10.0.0.0/16", "ipipMode": "sometimes"')],
    ['an AS number out of range', node('n', '"bgp": {"ipv4Address": "10.0.0.1/24", "asNumber": 4294967296}')],
    ['nothing', ''],
    ['binary', 'a\0b'],
  ])('%s', async (_, manifest) => {
    for (const verb of ['apply', 'create', 'validate']) {
      const seen = await tortie([verb, '-f', '-'], manifest);
      expect(seen.exit).toBe(3);
      expect(seen.stderr).not.toBe('');
      expect(seen.stdout).toBe('');
    }
    expect((await tortie('get ippools -o name')).stdout + (await tortie('get nodes -o name')).stdout).toBe(
      '',
    );
  });

  test('overlap with another pool', async () => {
    await tortie('apply -f -', v3Pool('a', '"cidr": "10.0.0.0/16"'));
    const seen = await tortie('apply -f -', v3Pool('b', '"cidr": "10.0.128.0/17"'));
    expect(seen).toMatchObject({ exit: 3, stdout: '' });
    expect((await tortie('get ippools -o name')).stdout).toBe('ippool/a\n');
  });
});

describe('flags', () => {
  test('--dry-run checks against what is stored, and writes nothing', async () => {
    const pool = v3Pool('a', '"cidr": "10.0.0.0/16"');
    expect((await tortie('apply -f - --dry-run', pool)).stdout).toBe(
      "Dry run: would have applied 1 'IPPool' resource(s)\n",
    );
    expect((await tortie('get clusterinfo -o name')).stdout).toBe('');
    await tortie('apply -f -', pool);
    const overlapping = v3Pool('b', '"cidr": "10.0.0.0/17"');
    expect((await tortie('apply -f - --dry-run', overlapping)).stderr).toContain('overlaps with IPPool(a)');
    await tortie('delete ippool a --dry-run');
    expect((await tortie('get ippools -o name')).stdout).toBe('ippool/a\n');
  });

  test('-f takes a directory in the order of its names, -R its subdirectories', async () => {
    mkdirSync(`${root}/manifests/more`, { recursive: true });
    writeFileSync(`${root}/manifests/2.yaml`, v3Pool('two', '"cidr": "10.2.0.0/16"'));
    writeFileSync(`${root}/manifests/1.json`, v3Pool('one', '"cidr": "10.1.0.0/16"'));
    writeFileSync(`${root}/manifests/notes.txt`, 'not a manifest');
    writeFileSync(`${root}/manifests/more/3.yml`, v3Pool('three', '"cidr": "10.3.0.0/16"'));
    expect((await tortie(`apply -f ${root}/manifests`)).stdout).toContain('applied 2 ');
    expect((await tortie(`apply -R -f ${root}/manifests`)).stdout).toContain('applied 3 ');
    writeFileSync(`${root}/manifests/more/4.yaml`, 'kind: [');
    expect((await tortie(`apply -R -f ${root}/manifests`)).stderr).toContain('more/4.yaml');
  });

  test('--export, -o name, --json and unsupported formats', async () => {
    await tortie('apply -f -', node('n'));
    expect((await tortie('get node n -o yaml --export')).stdout).not.toMatch(/uid|resourceVersion/);
    expect(JSON.parse((await tortie('get nodes --json')).stdout).items).toHaveLength(1);
    expect(await tortie('get nodes -o go-template={{.}}')).toMatchObject({ exit: 2, stdout: '' });
    expect((await tortie('get nodes -o custom-columns=COLOUR')).stderr).toContain(
      'valid values are: ASN, IPV4',
    );
  });
});

describe('changes of a stored object keep what we do not know', () => {
  beforeEach(async () => {
    await tortie('apply -f -', node('n'));
    const value = stored('nodes/n');
    value.spec.future = { large: 1 };
    const text = JSON.stringify(value).replace('"large":1', '"large":18446744073709551615');
    writeFileSync(keyFile('nodes/n'), text);
  });

  test.each([
    ['label nodes n zone=a', '"labels":{"zone":"a"}'],
    [['patch', 'node', 'n', '-p', '{"spec":{"bgp":{"asNumber":65000}}}'], '"asNumber":65000'],
    [['patch', 'node', 'n', '-t', 'merge', '-p', '{spec: {bgp: {ipv4Address: 10.0.0.9/24}}}'], '10.0.0.9/24'],
    [
      [
        'patch',
        'node',
        'n',
        '--type=json',
        '-p',
        '[{"op":"add","path":"/metadata/annotations","value":{"a/b":"c"}}]',
      ],
      '"annotations":{"a/b":"c"}',
    ],
  ])('%s', async (line, expected) => {
    expect(await tortie(line)).toMatchObject({ exit: 0, stderr: '' });
    const text = readFileSync(keyFile('nodes/n'), 'utf8');
    expect(text).toContain(expected);
    expect(text).toContain('"future":{"large":18446744073709551615}');
  });

  test('a patch that makes no sense changes nothing', async () => {
    const before = readFileSync(keyFile('nodes/n'), 'utf8');
    for (const patch of ['{"spec":{"bgp":{"ipv4Address":"10.0.0.300"}}}', '{"spec":5}', '[]', '{', 'a: [']) {
      const seen = await tortie(['patch', 'node', 'n', '-p', patch]);
      expect(seen).toMatchObject({ exit: 3, stdout: '' });
    }
    expect(
      (await tortie(['patch', 'node', 'n', '-t', 'json', '-p', '[{"op":"remove","path":"/x"}]'])).exit,
    ).toBe(3);
    expect(readFileSync(keyFile('nodes/n'), 'utf8')).toBe(before);
  });
});

describe('what no manifest may have, no change may bring in', () => {
  beforeEach(async () => {
    await tortie('apply -f -', node('n'));
  });

  test.each([
    ['an unknown field by patch', ['patch', 'node', 'n', '-p', '{"spec":{"foo":1}}'], 'spec.foo'],
    ['another name by patch', ['patch', 'node', 'n', '-p', '{"metadata":{"name":"q"}}'], 'Metadata.Name'],
    ['a label value with a blank', ['label', 'node', 'n', 'zone=a b'], 'Metadata.Labels (value)'],
    ['a label key that is none', ['label', 'node', 'n', 'a/b/c=d'], 'Metadata.Labels (label)'],
    [
      'a label key by patch',
      ['patch', 'node', 'n', '-p', '{"metadata":{"labels":{"-x":"y"}}}'],
      'Metadata.Labels',
    ],
  ])('%s', async (_what, words, expected) => {
    const before = readFileSync(keyFile('nodes/n'), 'utf8');
    const seen = await tortie(words);
    expect(seen).toMatchObject({ exit: 3, stdout: '' });
    expect(seen.stderr).toContain(expected);
    expect(readFileSync(keyFile('nodes/n'), 'utf8')).toBe(before);
  });

  test('but what was there already does not hinder a change', async () => {
    const odd = JSON.parse(readFileSync(keyFile('nodes/n'), 'utf8'));
    odd.spec.future = 1;
    odd.metadata.labels = { 'a b': 'c d' };
    writeFileSync(keyFile('nodes/n'), JSON.stringify(odd));
    expect(await tortie('label node n zone=a')).toMatchObject({ exit: 0, stderr: '' });
    expect(stored('nodes/n').spec.future).toBe(1);
  });
});

test('a file is no datastore', async () => {
  writeFileSync(`${root}/store`, 'text');
  const seen = await tortie('get nodes');
  expect(seen).toMatchObject({ exit: 1, stdout: '' });
  expect(seen.stderr).toContain('is no directory');
});

describe('misuse', () => {
  test.each([
    ['frobnicate', 'Unknown command: "frobnicate"'],
    ['get', 'expected KIND'],
    ['get nodes -f x', 'expected KIND'],
    ['apply', 'expected -f FILE'],
    ['apply -f', 'argument missing'],
    ['get nodes --colour', "unknown option '--colour'"],
    ['label nodes n', "missing required argument 'label'"],
    ['label nodes n a=b --remove', 'invalid label a=b'],
    ['-l loud version', '--log-level'],
  ])('tortie %s', async (line, expected) => {
    const seen = await tortie(line);
    expect(seen).toMatchObject({ exit: 2, stdout: '' });
    expect(seen.stderr).toContain(expected);
  });

  test('help goes to stdout, and every command has its own', async () => {
    const { COMMANDS } = await import('../../../src/cli/main.ts');
    const general = await tortie('--help');
    expect(general).toMatchObject({ exit: 0, stderr: '' });
    for (const name of Object.keys(COMMANDS))
      expect(general.stdout).toMatch(new RegExp(`^ {2}${name} `, 'm'));
    for (const name of [
      'get',
      'apply',
      'create',
      'replace',
      'delete',
      'label',
      'patch',
      'convert',
      'validate',
    ]) {
      const seen = await tortie([name, '--help']);
      expect(seen).toMatchObject({ exit: 0, stderr: '' });
      expect(seen.stdout).toContain(`Usage: tortie ${name}`);
      expect(seen.stdout).toContain('Example');
    }
  });
});
