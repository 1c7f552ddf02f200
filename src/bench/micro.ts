/**
 * `scripts/bench micro`: the inner loops alone, on memory: nanoseconds and bytes of garbage per operation.
 *
 * With `--page` they go into docs/performance.md, too.
 * With `--deoptimizations` it measures nothing: it warms everything up, lets V8 say from then on what it takes
 * back of its optimizations, and runs everything again. What it says then would happen under load, too.
 */
import { setFlagsFromString } from 'node:v8';
import { runInThisContext } from 'node:vm';
import { CHECKSUM_UNVERIFIED } from '../dataplane/coalesced-run.ts';
import { Coalescer } from '../dataplane/coalescing.ts';
import { PieceBatch } from '../dataplane/ports.ts';
import { Segmenter } from '../dataplane/segmentation.ts';
import { OURS, segmentsOf, THEIRS, tcpPacket } from '../dataplane/steady-packets.ts';
import { ForwardingTable } from '../fib/forwarding-table.ts';
import { SourceTable } from '../fib/source-table.ts';
import { ipv4 } from '../ip/ipv4.ts';
import { sumBytes } from '../wire/checksum.ts';
import { GSO_TCPV4 } from '../wire/virtio-net-header.ts';
import { bytesAllocatedPerCall } from './allocation.ts';
import { markdownTable, replaceSection } from './page.ts';
import {
  measuredInbound,
  measuredOutbound,
  SEGMENT_BYTES,
  SEGMENTS,
  steadyConfig,
  WasmMemory,
} from './steady-directions.ts';

const ROUNDS = 7;
const ROUND_MS = 60;
/** Calls of a round of the allocation measure. */
const ALLOCATION_CALLS = 500;
const DEOPTIMIZATION_CALLS = 3000;
const SLOT_BYTES = 2048;

interface Subject {
  readonly name: string;
  readonly run: () => unknown;
  /** Operations that one run is. */
  readonly operations: number;
}

const REPEAT = 100;
/** Somewhere for results to go, so that no optimizer takes the work away. */
const results = { last: 0 };

function lookups(): readonly Subject[] {
  const config = steadyConfig();
  const table = new ForwardingTable(() => 0);
  table.replace(config);
  const sources = new SourceTable(() => 0);
  sources.replace(config);
  const peer = ipv4('10.0.2.11') | 0;
  const slot = sources.peers.slotOf(peer);
  const [ours, theirs] = [OURS | 0, THEIRS | 0];
  return [
    {
      name: 'lookup of the next hop, 20,000 blocks',
      operations: REPEAT,
      run: () => {
        for (let i = 0; i < REPEAT; i++) results.last ^= table.nextHop((theirs - (i << 6)) | 0, ours);
      },
    },
    {
      name: 'check of the source, 20,000 blocks',
      operations: REPEAT,
      run: () => {
        for (let i = 0; i < REPEAT; i++) results.last ^= sources.check(peer, slot, theirs);
      },
    },
  ];
}

function checksums(): readonly Subject[] {
  const memory = new WasmMemory();
  const at = memory.allocate(65_536, 64);
  return [
    {
      name: `checksum of ${SEGMENT_BYTES} bytes, WebAssembly`,
      operations: REPEAT,
      run: () => {
        for (let i = 0; i < REPEAT; i++) results.last ^= memory.sum(at, SEGMENT_BYTES, i);
      },
    },
    {
      name: `checksum of ${SEGMENT_BYTES} bytes, JavaScript`,
      operations: REPEAT,
      run: () => {
        for (let i = 0; i < REPEAT; i++) results.last ^= sumBytes(memory.bytes, at, SEGMENT_BYTES, i);
      },
    },
  ];
}

function segmentation(): Subject {
  const memory = new WasmMemory();
  const [packet, target] = [memory.allocate(65_536), memory.allocate(SLOT_BYTES)];
  const superpacket = tcpPacket(OURS, THEIRS, SEGMENTS * SEGMENT_BYTES);
  memory.bytes.set(superpacket, packet);
  const segmenter = new Segmenter(memory.bytes, memory.sum);
  return {
    name: 'segmentation, with checksum',
    operations: SEGMENTS,
    run: () => {
      const count = segmenter.begin(packet, superpacket.length, GSO_TCPV4, SEGMENT_BYTES);
      for (let i = 0; i < count; i++) segmenter.writeHeaders(target);
    },
  };
}

function coalescing(): Subject {
  const memory = new WasmMemory();
  const packets = segmentsOf(tcpPacket(THEIRS, OURS, SEGMENTS * SEGMENT_BYTES), SEGMENT_BYTES);
  const offsets = packets.map((packet) => {
    const at = memory.allocate(SLOT_BYTES, 64) + 64;
    memory.bytes.set(packet, at);
    return at;
  });
  const length = packets[0]!.length;
  const head = packets[0]!.subarray(0, 40);
  const coalescer = new Coalescer(memory, SEGMENTS, true, memory.sum);
  const batch = new PieceBatch(memory, SEGMENTS, SEGMENTS);
  return {
    name: 'coalescing, with checksum',
    operations: SEGMENTS,
    run: () => {
      memory.bytes.set(head, offsets[0]!); // finish wrote the headers of the whole there
      coalescer.clear();
      for (let i = 0; i < SEGMENTS; i++) coalescer.add(offsets[i]!, length, CHECKSUM_UNVERIFIED);
      batch.clear();
      coalescer.finish(batch);
    },
  };
}

function directions(): readonly Subject[] {
  return (['ipip', 'udp'] as const).flatMap((transport) =>
    (['single packets', 'superpackets'] as const).flatMap((traffic) => {
      const [outbound, inbound] = [measuredOutbound(transport, traffic), measuredInbound(transport, traffic)];
      return [
        { name: `outbound, ${transport}, ${traffic}`, run: outbound.step, operations: outbound.packets },
        { name: `inbound, ${transport}, ${traffic}`, run: inbound.step, operations: inbound.packets },
      ];
    }),
  );
}

/** Nanoseconds of one operation: the least of several rounds, since whatever disturbs a round adds to it. */
function nanoseconds({ run, operations }: Subject): number {
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    const began = process.hrtime.bigint();
    let calls = 0;
    let elapsed = 0;
    while (elapsed < ROUND_MS * 1e6) {
      for (let i = 0; i < 10; i++) run();
      calls += 10;
      elapsed = Number(process.hrtime.bigint() - began);
    }
    least = Math.min(least, elapsed / calls / operations);
  }
  return least;
}

/** What V8 says of it proves that it would have said so of others, too. */
function deoptimizeOnPurpose(): void {
  setFlagsFromString('--allow-natives-syntax');
  runInThisContext(`{
    const canary = (a, b) => a + b;
    %PrepareFunctionForOptimization(canary);
    canary(1, 2);
    %OptimizeFunctionOnNextCall(canary);
    canary(3, 4);
    canary('a', 'b');
  }`);
}

function measured(subject: Subject): readonly string[] {
  const allocated = bytesAllocatedPerCall(subject.run, ALLOCATION_CALLS) / subject.operations;
  return [subject.name, nanoseconds(subject).toFixed(0), allocated.toFixed(2)];
}

const subjects = [...lookups(), ...checksums(), segmentation(), coalescing(), ...directions()];

if (process.argv.includes('--deoptimizations')) {
  const all = () => {
    for (let i = 0; i < DEOPTIMIZATION_CALLS; i++) for (const { run } of subjects) run();
  };
  all();
  setFlagsFromString('--trace-deopt');
  all();
  deoptimizeOnPurpose();
} else {
  const table = markdownTable([['operation', 'ns', 'bytes allocated'], ...subjects.map(measured)]);
  process.stdout.write(`${table}\n`);
  if (process.argv.includes('--page')) replaceSection('micro', table);
}
