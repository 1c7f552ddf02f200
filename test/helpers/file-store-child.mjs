// A process of its own that uses the file datastore: node file-store-child.mjs JOB DIRECTORY ARGUMENTS…
// Needs the built output, since Node 20 runs no TypeScript.
import { join } from 'node:path';
import { openFileStore } from '../../dist/store/open.js';

const [job, directory, ...words] = process.argv.slice(2);
const store = openFileStore(directory);

async function update(key, change) {
  for (;;) {
    const entry = await store.get(key);
    try {
      if (entry) return await store.update(key, change(entry.value), entry.revision);
      return await store.create(key, change(undefined));
    } catch (error) {
      if (!['ERR_STORE_CONFLICT', 'ERR_STORE_EXISTS', 'ERR_STORE_NOT_FOUND'].includes(error.code))
        throw error;
    }
  }
}

const JOBS = {
  /** KEY TIMES: adds one, so many times. */
  async count([key, times]) {
    for (let i = 0; i < Number(times); i += 1) await update(key, (value) => String(Number(value ?? 0) + 1));
  },
  /** PREFIX TIMES: creates, changes and deletes below its own prefix. */
  async scribble([prefix, times]) {
    for (let i = 0; i < Number(times); i += 1) {
      const key = `${prefix}/${i % 5}`;
      if (i % 4 === 3 && (await store.get(key))) await store.delete(key);
      else await update(key, () => JSON.stringify({ i, filling: 'x'.repeat((i * 997) % 9_000) }));
    }
  },
  /** KEY: counts until it is killed, telling each success; beside it writes and deletes values of all sizes. */
  async endless([key]) {
    for (let i = 0; ; i += 1) {
      await update(key, (value) => String(Number(value ?? 0) + 1));
      process.stdout.write('+');
      const other = `/calico/endless/${i % 3}`;
      if (i % 5 === 4 && (await store.get(other))) await store.delete(other).catch(() => {});
      else await update(other, () => JSON.stringify({ filling: 'y'.repeat((i * 7919) % 200_000) }));
    }
  },
  /** Takes the lock and keeps it. */
  async hold() {
    const { flockLock } = await import('../../dist/io/file-lock.js');
    if (!flockLock.tryAcquire(join(directory, '.tortie/lock'))) throw new Error('somebody has the lock');
    process.stdout.write('held\n');
    setInterval(() => {}, 1_000);
  },
};

await JOBS[job](words);
