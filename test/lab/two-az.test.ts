/** Issue by issue, what Calico's page promises: on real packets between real agents, in the lab two-az. */
import { createHash, type Hash, randomBytes } from 'node:crypto';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pipeline } from 'node:stream/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { labUnavailable, TestLab } from '../helpers/lab.ts';
import { answered, pingSteadily } from '../helpers/ping.ts';

const lab = new TestLab('az');
const page = (mode: string) =>
  readFileSync(join(import.meta.dirname, `../../examples/pools/${mode}.yaml`), 'utf8');

/** How much `exec` is given: 1 GB in scripts/soak. */
const STREAM_BYTES = Number(process.env.TORTIE_TEST_STREAM_BYTES ?? 16 << 20);
const STREAM_MS = 60_000 + STREAM_BYTES / 10_000;
const RECEIVER = `
const server = require('node:net').createServer((socket) => {
  const hash = require('node:crypto').createHash('sha256');
  socket.on('data', (piece) => hash.update(piece));
  socket.on('end', () => { console.log(hash.digest('hex')); server.close(); });
});
server.listen(5003, () => console.log('listening'));`;
const SENDER = `process.stdin.pipe(require('node:net').connect(5003, 'w3'))`;

function* randomPieces(hash: Hash): Generator<Buffer> {
  for (let left = STREAM_BYTES; left > 0; left -= 1 << 20) {
    const piece = randomBytes(Math.min(left, 1 << 20));
    hash.update(piece);
    yield piece;
  }
}

/** By zone: w1 and w2 are in az-a, w3 and w4 in az-b. */
function forms(sameZone: string, acrossZones: string): Record<string, string> {
  const names = ['w1', 'w2', 'w3', 'w4'];
  const zone = (name: string) => (name < 'w3' ? 'a' : 'b');
  return Object.fromEntries(
    names.flatMap((from) =>
      names
        .filter((to) => to !== from)
        .map((to) => [`${from}>${to}`, zone(from) === zone(to) ? sameZone : acrossZones]),
    ),
  );
}

async function apply(mode: string): Promise<void> {
  const said = await lab.succeed(['apply', '-f', '-'], page(mode));
  expect(said).toBe("Successfully applied 1 'ipPool' resource(s)\n");
}

describe.skipIf(labUnavailable)(`two-az${labUnavailable ? ` (${labUnavailable})` : ''}`, () => {
  beforeAll(() => lab.up());
  afterAll(() => lab.down());

  test('always: what crosses between nodes is encapsulated, and every workload is reached', async () => {
    await apply('always');
    const result = await lab.verify();
    expect(result.forms).toEqual(forms('encapsulated', 'encapsulated'));
    expect(result).toMatchObject({ status: 0, ok: true, lab: lab.name });
    for (const pair of result.pairs)
      expect(pair).toMatchObject({
        pool: '192.168.0.0/16',
        mode: 'Always',
        transport: 'ipip',
        reachable: true,
        sent: 3,
        received: 3,
      });
  });

  test('cross-subnet: direct in a zone, encapsulated across', async () => {
    await apply('cross-subnet');
    const result = await lab.verify();
    expect(result.forms).toEqual(forms('direct', 'encapsulated'));
    expect(result.status).toBe(0);
    expect(result.pairs.find(({ from, to }) => from === 'w1' && to === 'w3')).toMatchObject({
      fromNode: 'node1',
      toNode: 'node3',
      sameSubnet: false,
      transport: 'ipip',
    });
  });

  test('nat-outgoing: the internet host sees the node, another workload never does', async () => {
    const { nat } = await lab.verify();
    const sources = ['10.0.1.11', '10.0.1.12', '10.0.2.11', '10.0.2.12'];
    expect(nat).toEqual(
      sources.map((source, position) => ({
        from: `w${position + 1}`,
        to: 'internet',
        reachable: true,
        expectedSource: source,
        observedSource: source,
      })),
    );
  });

  test('ipip disabled: the fabric drops what crosses zones, and verify expects it', async () => {
    await lab.succeed(['apply', '-f', '-'], page('always').replace('enabled: true', 'enabled: false'));
    const result = await lab.verify();
    expect(result.forms).toEqual(forms('direct', 'dropped'));
    expect(result).toMatchObject({ status: 0, ok: true });
    expect(result.pairs.find(({ from, to }) => from === 'w1' && to === 'w3')).toMatchObject({
      mode: 'Never',
      reachable: false,
      received: 0,
      rttMs: null,
      transport: null,
    });
  });

  test('a node with /32 encapsulates to its neighbour, as the page warns; put back, it is direct again', async () => {
    await apply('cross-subnet');
    const node = await lab.succeed(['get', 'node', 'node4', '-o', 'yaml', '--export']);
    expect(node).toContain('10.0.2.12/24');
    await lab.succeed(['apply', '-f', '-'], node.replace('10.0.2.12/24', '10.0.2.12/32'));
    const narrow = await lab.verify();
    expect(narrow.forms).toEqual({ ...forms('direct', 'encapsulated'), 'w4>w3': 'encapsulated' });
    expect(narrow.status).toBe(0);
    await lab.succeed(['apply', '-f', '-'], node);
    const restored = await lab.verify();
    expect(restored.forms).toEqual(forms('direct', 'encapsulated'));
    expect(restored.status).toBe(0);
  });

  test('ten flips of the mode lose no packet of 100 a second, in a zone nor across', async () => {
    // 8 s of pings; the flips follow one another as fast as verify, which sees each in force, allows.
    const pings = ['w2', 'w3'].map((to) => lab.inside('w1', pingSteadily(800, 0.01, to)));
    for (let flip = 0; flip < 10; flip++) await apply(flip % 2 === 0 ? 'always' : 'cross-subnet');
    for (const ping of await Promise.all(pings)) {
      expect(answered(ping.stdout, 800), ping.stdout.slice(-200)).toBe(800);
      expect(ping.status).toBe(0);
    }
  });

  test('names resolve inside; exec gives the status of its command', async () => {
    for (const name of ['node3', 'w3', 'internet'])
      expect((await lab.inside('w1', ['ping', '-c', '1', '-W', '5', name])).status).toBe(0);
    expect((await lab.inside('node1', ['sh', '-c', 'exit 7'])).status).toBe(7);
    // As a shell has it: no such command, and one that is no program.
    const missing = await lab.inside('w1', ['no-such-command', 'w3']);
    expect(missing.status).toBe(127);
    expect(missing.stderr).toContain('no-such-command');
    expect((await lab.inside('node1', ['/etc/passwd'])).status).toBe(126);
    const unknown = await lab.inside('nobody', ['true']);
    expect(unknown.status).toBe(2);
    expect(unknown.stderr).toContain('has no host "nobody"');
  });

  test(
    'exec carries its input: random bytes to a workload in the other zone arrive with the same SHA-256',
    { timeout: STREAM_MS },
    async () => {
      await apply('always');
      expect((await lab.verify()).ok).toBe(true);
      const receiver = lab.start(['lab', 'exec', 'w3', '--', process.execPath, '-e', RECEIVER]);
      const said = createInterface({ input: receiver.stdout })[Symbol.asyncIterator]();
      expect((await said.next()).value).toBe('listening');
      const sender = lab.start(['lab', 'exec', 'w1', '--', process.execPath, '-e', SENDER]);
      const hash = createHash('sha256');
      await pipeline(randomPieces(hash), sender.stdin);
      expect((await said.next()).value).toBe(hash.digest('hex'));
      expect(await sender.ended).toBe(0);
      expect(await receiver.ended).toBe(0);
    },
  );

  test('env gives a datastore that works from the host', async () => {
    const env = await lab.succeed(['lab', 'env']);
    expect(env).toContain(`export TORTIE_DATASTORE=${lab.env.TORTIE_DATASTORE}\n`);
    expect(await lab.succeed(['get', 'nodes', '-o', 'wide'])).toContain('node4');
  });

  test('a dead agent stops nothing; up again starts it, and nothing else', async () => {
    await apply('always');
    expect((await lab.verify()).ok).toBe(true);
    const pid = readFileSync(`/run/tortie/labs/${lab.name}/nodes/node1/agent.pid`, 'utf8').split(' ')[0];
    process.kill(Number(pid), 'SIGKILL');
    const up = await lab.run(['lab', 'up', '--name', lab.name]);
    expect(up.stderr).toContain('(0 new)');
    expect(up.stderr).toContain('agents: started node1\n');
    expect(up.status).toBe(0);
    const result = await lab.verify();
    expect(result.forms).toEqual(forms('encapsulated', 'encapsulated'));
  });

  test('a link that was removed is made again', async () => {
    await lab.inside('node2', ['ip', 'link', 'del', 'eth0']);
    const up = await lab.run(['lab', 'up', '--name', lab.name]);
    expect(up.stderr).toContain('7 links (1 new)');
    expect((await lab.verify()).ok).toBe(true);
  });

  test('a deleted node is registered again by up, and only its agent starts', async () => {
    await lab.succeed(['delete', 'node', 'node2']);
    const up = await lab.run(['lab', 'up', '--name', lab.name]);
    expect(up.stderr).toContain('datastore: it has no node2; its agent starts anew\n');
    expect(up.stderr).toContain('agents: started node2\n');
    expect((await lab.verify()).ok).toBe(true);
  });

  test('a datastore that was emptied: verify fails and names the workloads; up fills it again', async () => {
    rmSync(`/run/tortie/labs/${lab.name}/datastore/calico`, { recursive: true });
    const emptied = await lab.run(['lab', 'verify']);
    expect(emptied.status).toBe(1);
    expect(emptied.stdout).toContain('the datastore holds no address of w1, w2, w3, w4');
    const up = await lab.run(['lab', 'up', '--name', lab.name]);
    expect(up.stderr).toContain('datastore: it was emptied');
    expect(up.stderr).toContain('agents: started node1, node2, node3, node4\n');
    expect((await lab.verify()).forms).toEqual(forms('encapsulated', 'encapsulated'));
  });

  test('another topology under the same name is refused', async () => {
    const file = join(import.meta.dirname, '../../examples/pools/always.yaml');
    expect((await lab.run(['lab', 'up', file])).status).toBe(3);
  });
});
