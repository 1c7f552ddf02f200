import { expect, test } from 'vitest';
import { type NodeRunFlags, parseAgentOptions } from '../../../src/agent/options.ts';
import { prefix } from '../../../src/ip/prefix.ts';

const parse = (flags: NodeRunFlags = {}, env: NodeJS.ProcessEnv = {}) =>
  parseAgentOptions({ name: 'node1', ...flags }, env);

test('defaults', () => {
  expect(parse()).toMatchObject({
    node: 'node1',
    address: { type: 'keep' },
    method: { type: 'first-found' },
    device: 'tunl0',
    mtu: null,
    transport: 'ipip',
    udpPort: 5555,
    queues: 1,
    fastPath: { mode: 'off', pin: false, pinRoot: '/sys/fs/bpf/tortie' },
    metrics: null,
    defaultPool: { cidr: prefix('192.168.0.0/16'), ipipMode: 'Always' },
    runDirectory: '/run/tortie',
  });
});

test("calico/node's environment", () => {
  const env = {
    NODENAME: 'Node-7',
    IP: 'autodetect',
    IP_AUTODETECTION_METHOD: 'can-reach=10.0.1.1',
    CALICO_IPV4POOL_CIDR: '10.244.0.0/16',
    CALICO_IPV4POOL_IPIP: 'cross-subnet',
    FELIX_IPINIPMTU: '1400',
    TORTIE_RUN_DIR: '/tmp/x',
  };
  expect(parseAgentOptions({}, env)).toMatchObject({
    node: 'node-7',
    address: { type: 'detect' },
    method: { type: 'can-reach', destination: '10.0.1.1' },
    defaultPool: { cidr: prefix('10.244.0.0/16'), ipipMode: 'CrossSubnet' },
    mtu: 1400,
    runDirectory: '/tmp/x',
  });
});

test('flags win over the environment; no default pools', () => {
  const env = { NODENAME: 'other', IP: '10.0.0.1', FELIX_IPINIPMTU: '1400', NO_DEFAULT_POOLS: 'true' };
  const options = parse({ ip: '10.0.1.11/24', mtu: 'auto', metrics: ':9091' }, env);
  expect(options).toMatchObject({
    node: 'node1',
    address: { type: 'given', bare: false },
    mtu: null,
    defaultPool: null,
    metrics: { host: '127.0.0.1', port: 9091 },
  });
  expect(parse({ ip: '10.0.1.11' }).address).toMatchObject({ type: 'given', bare: true });
});

test.each<[NodeRunFlags, NodeJS.ProcessEnv, RegExp]>([
  [{ name: 'a/b' }, {}, /the node's name: .* got "a\/b"/],
  [{ ip: '10.0.1' }, {}, /--ip: .* got "10\.0\.1"/],
  [{ queues: '0' }, {}, /--queues: expected a whole number from 1 to 16, got "0"/],
  [{ mtu: '67' }, {}, /--mtu: expected a whole number from 68 to 65535, got "67"/],
  [{ transport: 'gre' }, {}, /--transport: expected ipip, udp, auto, got "gre"/],
  [{ device: 'a-name-that-is-too-long' }, {}, /--device: /],
  [{ udpPort: '0' }, {}, /--udp-port: /],
  [{}, { CALICO_IPV4POOL_CIDR: '10.50.0.0/28' }, /CALICO_IPV4POOL_CIDR: .* at most \/26/],
  [{}, { CALICO_IPV4POOL_IPIP: 'sometimes' }, /CALICO_IPV4POOL_IPIP: .* got "sometimes"/],
])('%j %j is refused', (flags, env, message) => {
  expect(() => parse(flags, env)).toThrow(message);
});
