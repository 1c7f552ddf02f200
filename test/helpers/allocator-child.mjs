// A process of its own that takes and gives back addresses: node allocator-child.mjs DATASTORE NODE HANDLE TIMES
// It says `ready` once it has taken and given back a first one, and begins when its standard input ends.
// Prints its history as JSON: each address, from when it was held and until when (null: it is held still), in
// nanoseconds of the machine's monotonic clock, which all processes share.
// Needs the built output, since Node 20 runs no TypeScript.
import { setPriority } from 'node:os';
import { systemClock } from '../../dist/base/clock.js';
import { silentLogger } from '../../dist/base/logger.js';
import { systemRandom } from '../../dist/base/random.js';
import { createAddressAllocator } from '../../dist/control/address-allocator.js';
import { formatIpv4 } from '../../dist/ip/ipv4.js';
import { openDatastore } from '../../dist/store/open.js';

// Many of these on few cores are not to starve the datastore that they ask.
setPriority(5);
const [datastore, node, handle, times] = process.argv.slice(2);
const store = await openDatastore({ datastore, env: {} });
const allocator = createAddressAllocator({
  store,
  clock: systemClock,
  random: systemRandom,
  logger: silentLogger,
});
// Connected and compiled before all begin at once.
await allocator.assign({ node, handle: `${handle}-first`, attributes: {} });
await allocator.releaseByHandle(`${handle}-first`);
process.stdout.write('ready\n');
for await (const _ of process.stdin);
const now = () => String(process.hrtime.bigint());
const held = [];
const history = [];
for (let i = 0; i < Number(times); i += 1) {
  const own = `${handle}-${i}`;
  const { address } = await allocator.assign({ node, handle: own, attributes: {} });
  const one = { address: formatIpv4(address), handle: own, from: now(), to: null };
  history.push(one);
  held.push(one);
  // Every third time the one that is held longest is given back.
  if (i % 3 === 2) {
    const oldest = held.shift();
    oldest.to = now();
    await allocator.releaseByHandle(oldest.handle);
  }
}
await store.close();
process.stdout.write(JSON.stringify(history));
