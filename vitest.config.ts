import { defineConfig } from 'vitest/config';

// Two projects, because they need different things of the host: `unit` needs nothing and runs in
// parallel; `system` makes namespaces, devices and processes (root), one file at a time, so that timings mean something.
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/{unit,property,contract,architecture,golden,conformance}/**/*.test.ts'],
          testTimeout: 30_000,
        },
      },
      {
        test: {
          name: 'system',
          include: ['test/{netns,lab,etcd,examples,docs}/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
