/** Etcd's listings, read by hand, against the package's own decoder. */
import { createRequire } from 'node:module';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeRange } from '../../src/store/etcd-range.ts';

interface Codec {
  readonly responseSerialize: (message: object) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => {
    header: { revision: string } | null;
    kvs: { key: Buffer; value: Buffer; mod_revision: string }[];
    more: boolean;
  };
}

const require = createRequire(import.meta.resolve('etcd3'));
const loader = require('@grpc/proto-loader') as {
  loadSync(path: string, options: object): Record<string, { Range: Codec }>;
};
const options = { keepCase: true, longs: String, defaults: true };
const codec = loader.loadSync(require.resolve('etcd3/proto/rpc.proto'), options)['etcdserverpb.KV']!.Range;

const number = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }).map(String);
const bytes = fc.oneof(
  fc.string({ unit: 'binary' }).map((text) => Buffer.from(text)),
  fc.uint8Array().map((array) => Buffer.from(array)),
);
const keyValue = fc.record({
  key: bytes,
  value: bytes,
  create_revision: number,
  mod_revision: number,
  version: number,
  lease: number,
});
const response = fc.record({
  header: fc.record({ cluster_id: number, member_id: number, revision: number, raft_term: number }),
  kvs: fc.array(keyValue, { maxLength: 20 }),
  more: fc.boolean(),
  count: number,
});

test('a page is read as the package reads it', () => {
  fc.assert(
    fc.property(response, (message) => {
      const encoded = codec.responseSerialize(message);
      const theirs = codec.responseDeserialize(encoded);
      const last = theirs.kvs.at(-1);
      const ours = decodeRange(encoded);
      expect({ ...ours, entries: [...ours.entries] }).toEqual({
        revision: theirs.header!.revision,
        entries: theirs.kvs.map(({ key, value, mod_revision }) => ({
          key: key.toString('utf8'),
          value: value.toString('utf8'),
          revision: mod_revision,
        })),
        nextKey: theirs.more && last ? Buffer.concat([last.key, Buffer.of(0)]) : undefined,
      });
    }),
  );
});

test('whatever the bytes, reading ends, with a page or a RangeError', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (array) => {
      try {
        for (const entry of decodeRange(Buffer.from(array)).entries) expect(entry.key).toBeTypeOf('string');
      } catch (error) {
        expect(error).toBeInstanceOf(RangeError);
      }
    }),
  );
});
