// A process of its own that takes and gives back addresses: node allocator-child.mjs DATASTORE NODE HANDLE TIMES
// Prints the addresses that it keeps, as JSON. Needs the built output, since Node 20 runs no TypeScript.
import { systemClock } from '../../dist/base/clock.js';
import { silentLogger } from '../../dist/base/logger.js';
import { systemRandom } from '../../dist/base/random.js';
import { createAddressAllocator } from '../../dist/control/address-allocator.js';
import { formatIpv4 } from '../../dist/ip/ipv4.js';
import { openDatastore } from '../../dist/store/open.js';

const [datastore, node, handle, times] = process.argv.slice(2);
const store = await openDatastore({ datastore, env: {} });
const allocator = createAddressAllocator({
  store,
  clock: systemClock,
  random: systemRandom,
  logger: silentLogger,
});
const kept = [];
for (let i = 0; i < Number(times); i += 1) {
  const own = `${handle}-${i}`;
  const { address } = await allocator.assign({ node, handle: own, attributes: {} });
  // Every third is given back at once.
  if (i % 3 === 2) await allocator.releaseByHandle(own);
  else kept.push(formatIpv4(address));
}
await store.close();
process.stdout.write(JSON.stringify(kept));
