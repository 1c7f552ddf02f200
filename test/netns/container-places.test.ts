/** Where verify listens for containers: processes with a word in their environment, and the other end of their veth. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { poll, systemClock } from '../../src/base/clock.ts';
import { containerNamespaces, containerPlaces } from '../../src/lab/containers.ts';
import { parseTopology } from '../../src/lab/topology.ts';

const id = randomBytes(3).toString('hex');
const node = `n${id}`;
const namespace = `tortie-places-${id}`;
const topology = parseTopology(
  {
    name: 'places',
    zones: { z: { subnet: '10.0.1.0/24' } },
    nodes: { [node]: { zone: 'z' }, [`m${id}`]: { zone: 'z' } },
  },
  'test',
);

let container: ChildProcess;
beforeAll(async () => {
  const ip = (...words: string[]) => execFileSync('ip', words);
  ip('netns', 'add', namespace);
  ip('link', 'add', `p${id}`, 'type', 'veth', 'peer', 'name', 'eth7', 'netns', namespace);
  ip('-n', namespace, 'address', 'add', '10.0.1.11/24', 'dev', 'eth7');
  container = spawn('ip', ['netns', 'exec', namespace, 'sleep', '300'], {
    env: { ...process.env, TORTIE_LAB_HOST: node },
    stdio: 'ignore',
  });
  // `ip` is in our namespace before it is in its own.
  const entered = () => {
    const path = containerNamespaces().get(node);
    return path !== undefined && statSync(path).ino !== statSync('/proc/self/ns/net').ino;
  };
  await poll(systemClock, 10_000, 20, async () => entered() || undefined);
});
afterAll(() => {
  container?.kill('SIGKILL');
  execFileSync('ip', ['netns', 'delete', namespace]);
});

test("the fabric's end of a container's link is found by the address of its node", async () => {
  const said: string[] = [];
  const places = await containerPlaces(topology, (line) => said.push(line));
  expect(places.port(node)).toEqual({ netnsPath: '/proc/self/ns/net', interface: `p${id}` });
  expect(places.namespace(node)).toBe(`/proc/${container.pid}/ns/net`);
  expect(said[0]).toContain(`no container for m${id}`);
});

test('no container of the topology at all is an error that says what is expected', async () => {
  const other = parseTopology(
    { name: 'places', zones: { z: { subnet: '10.0.1.0/24' } }, nodes: { [`x${id}`]: { zone: 'z' } } },
    'test',
  );
  await expect(containerPlaces(other, () => {})).rejects.toMatchObject({ code: 'ERR_LAB_NOT_UP' });
});
