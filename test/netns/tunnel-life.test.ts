/** `tortie tunnel run` from start to end: what it refuses, adopts, leaves behind, and how it comes back. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openCapture } from '../../src/io/capture.ts';
import { namedNetworkNamespace } from '../../src/io/netns.ts';
import { ipv4In } from '../helpers/frames.ts';
import { eventually } from '../helpers/small-cloud.ts';
import { address, block, inner, TunnelHosts, type TunnelProcess } from '../helpers/tunnel-hosts.ts';

const hosts = new TunnelHosts('tl');
let a: TunnelProcess;

beforeAll(async () => {
  hosts.up();
  await hosts.serve('b');
  hosts.configure('b', 'a');
});

afterAll(async () => {
  await hosts.down();
});

const flags = () => JSON.parse(hosts.run('a', 'ip', '-json', 'link', 'show', 'tunl0'))[0].flags as string[];

test('a device of another kind under that name: exit 4, and the line that mends it', async () => {
  hosts.ip('a', 'link add tunl0 type bridge');
  const refused = hosts.start('a');
  expect(await refused.ended).toBe(4);
  expect(refused.log()).toMatch(/the name tunl0 is taken by a device that is no TUN/);
  expect(refused.log()).toMatch(/ip -d link show tunl0/);
  hosts.ip('a', 'link del tunl0');
});

test('a device that is there is adopted as it is: address, MTU, routes', async () => {
  hosts.ip('a', 'tuntap add dev tunl0 mode tun', 'link set tunl0 mtu 1410');
  hosts.configure('a', 'b');
  expect(flags()).not.toContain('LOWER_UP');
  a = await hosts.serve('a');
  expect(flags()).toContain('LOWER_UP');
  expect(await hosts.status('a')).toMatchObject({
    entries: 1,
    device: { mtu: 1410, up: true, carrier: true },
  });
  expect(hosts.ping('a', inner('b'), '-c', '1')).toContain('1 received');
});

test('a second one for the same device: exit 4, and it says who has it', async () => {
  const second = hosts.start('a');
  expect(await second.ended).toBe(4);
  expect(second.log()).toMatch(/tunl0 is already served on this host/);
});

test('killed: no carrier, the routes stay, nothing leaves unwrapped, and a new one resumes', async () => {
  a.process.kill('SIGKILL');
  await a.ended;
  await eventually('no carrier', async () => (flags().includes('LOWER_UP') ? undefined : true));
  expect(hosts.run('a', 'ip', 'route', 'show', 'dev', 'tunl0')).toContain(
    `${block('b')} via ${address('b')}`,
  );
  const capture = openCapture({ netnsPath: namedNetworkNamespace(hosts.namespace('r')), interface: 'to-a' });
  expect(hosts.ping('a', inner('b'), '-c', '5', '-W', '1')).toMatch(/ 0 received/);
  const leaked = capture.read().filter(({ bytes }) => ipv4In(bytes) !== undefined);
  capture.close();
  expect(leaked).toEqual([]);
  a = await hosts.serve('a');
  expect(hosts.ping('a', inner('b'), '-c', '1')).toContain('1 received');
});

test('regression: the path MTU that the kernel remembered of a destination was followed as a route after a restart', async () => {
  hosts.ip('a', 'link set tunl0 mtu 1500');
  hosts.run('a', 'sh', '-c', `ping -n -M do -c 1 -W 1 -s 1472 ${inner('b')} || true`);
  await eventually('the kernel remembers it', async () =>
    hosts.run('a', 'ip', 'route', 'show', 'cache').includes(inner('b')) ? true : undefined,
  );
  a.process.kill('SIGTERM');
  await a.ended;
  a = await hosts.serve('a');
  expect(await hosts.status('a')).toMatchObject({ entries: 1 });
  hosts.ip('a', 'link set tunl0 mtu 1410');
});

test('what would spoil it is told: strict rp_filter beside it, ignore_routes_with_linkdown on it', async () => {
  hosts.run('a', 'sysctl', '-qw', 'net.ipv4.conf.eth0.rp_filter=1');
  hosts.run('a', 'sysctl', '-qw', 'net.ipv4.conf.tunl0.ignore_routes_with_linkdown=1');
  const { warnings } = (await hosts.status('a'))!;
  expect(warnings).toHaveLength(2);
  expect(warnings[0]).toContain('sysctl -w net.ipv4.conf.tunl0.ignore_routes_with_linkdown=0');
  expect(warnings[1]).toContain('sysctl -w net.ipv4.conf.eth0.rp_filter=2');
});

test('stopped politely: exit 0, device and routes stay, the socket is gone; status then exits 4', async () => {
  a.process.kill('SIGTERM');
  expect(await a.ended).toBe(0);
  expect(hosts.run('a', 'ip', 'route', 'show', 'dev', 'tunl0')).toContain(
    `${block('b')} via ${address('b')}`,
  );
  expect(await hosts.status('a')).toBeUndefined();
  const status = () =>
    execFileSync(process.execPath, [MAIN, 'tunnel', 'status'], {
      env: { ...process.env, TORTIE_RUN_DIR: hosts.runDirectory('a') },
      stdio: 'pipe',
      timeout: 20_000,
    });
  expect(status).toThrow(expect.objectContaining({ status: 4 }));
});

test('NET_ADMIN and NET_RAW are enough, and are all that it keeps', async () => {
  const setpriv = ['setpriv', '--bounding-set=-all,+net_admin,+net_raw', '--inh-caps=-all', '--no-new-privs'];
  for (const [host, prefix] of [['c', setpriv] as const, ['a', []] as const]) {
    const started = await hosts.serveBy(host, prefix);
    const { pid } = (await hosts.status(host))!;
    const held = /^CapEff:\s*(\w+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    expect(BigInt(`0x${held}`)).toBe((1n << 12n) | (1n << 13n));
    started.process.kill('SIGTERM');
    expect(await started.ended).toBe(0);
  }
});

test('flags that ask for it: an MTU of our own, a source of the outer header, hosts that are allowed', async () => {
  hosts.ip('a', 'addr add 10.0.1.77/24 dev eth0');
  hosts.ip('r', 'route add 10.0.1.77/32 dev to-a');
  a = await hosts.serve('a', '--mtu', '1400', '--local', '10.0.1.77', '--allow', '10.0.9.0/24,10.0.3.11');
  expect(await hosts.status('a')).toMatchObject({ local: '10.0.1.77', device: { mtu: 1400 } });
  hosts.ip('b', `route replace ${block('a')} via 10.0.1.77 dev tunl0 onlink`);
  await eventually('ping passes', async () =>
    hosts.ping('a', inner('b'), '-c', '1').includes('1 received') ? true : undefined,
  );
  for (const wrong of [
    ['--allow', '10.0.9.1/24'],
    ['--local', 'eth0'],
    ['--mtu', '20'],
  ]) {
    const refused = hosts.start('c', ...wrong);
    expect(await refused.ended).toBe(2);
    expect(refused.log()).toContain(wrong[0]);
  }
});

const MAIN = new URL('../../dist/cli/main.js', import.meta.url).pathname;
