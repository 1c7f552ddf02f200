/**
 * Random bytes by TCP between two namespaces, as often as wanted: one Node process in each, which makes its bytes
 * once, hashes what it receives and tells the sender.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';

const PORT = 5002;
/** A megabyte at a time, so that the sender's event loop waits for the kernel and not the other way round. */
const PROGRAM = `
const { randomBytes, createHash } = require('node:crypto');
const net = require('node:net');
const [local, bytes] = process.argv.slice(1);
const data = randomBytes(Number(bytes));
const sha256 = createHash('sha256').update(data).digest('hex');
const server = net.createServer({ allowHalfOpen: true }, (socket) => {
  const hash = createHash('sha256');
  socket.on('data', (piece) => hash.update(piece));
  socket.on('end', () => socket.end(hash.digest('hex')));
  socket.on('error', () => {});
});
const send = (host) => {
  const begin = performance.now();
  const socket = net.connect({ host, port: ${PORT}, localAddress: local }, async () => {
    for (let at = 0; at < data.length; at += 1 << 20)
      if (!socket.write(data.subarray(at, at + (1 << 20)))) await new Promise((resolve) => socket.once('drain', resolve));
    socket.end();
  });
  let received = '';
  socket.setEncoding('utf8').on('data', (text) => { received += text; });
  socket.on('error', (error) => { received = error.message; });
  socket.on('close', () => console.log(JSON.stringify({ sha256, received, ms: performance.now() - begin })));
};
require('node:readline').createInterface({ input: process.stdin }).on('line', send);
server.listen(${PORT}, local, () => console.log('ready'));`;

export interface Delivery {
  /** Of what was sent, and of what the receiver says it got (or the error that there was). */
  readonly sha256: string;
  readonly received: string;
  readonly ms: number;
}

/** One end: sends from and receives at `address` in `namespace`. */
export class RandomStreamEnd {
  readonly address: string;
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterator<string>;

  private constructor(namespace: string, address: string, bytes: number) {
    this.address = address;
    const words = ['netns', 'exec', namespace, process.execPath, '-e', PROGRAM, address, `${bytes}`];
    this.#child = spawn('ip', words, {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  static async open(namespace: string, address: string, bytes: number): Promise<RandomStreamEnd> {
    const end = new RandomStreamEnd(namespace, address, bytes);
    await end.#line(30_000);
    return end;
  }

  /** Sends all its bytes to the other end, and waits for the hash of what arrived. */
  async sendTo(other: RandomStreamEnd, deadlineMs: number): Promise<Delivery> {
    this.#child.stdin.write(`${other.address}\n`);
    return JSON.parse(await this.#line(deadlineMs)) as Delivery;
  }

  close(): void {
    this.#child.kill('SIGKILL');
  }

  async #line(deadlineMs: number): Promise<string> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new Error(`${this.address} said nothing for ${deadlineMs} ms`)),
        deadlineMs,
      );
    });
    const next = await Promise.race([this.#lines.next(), late]).finally(() => clearTimeout(timer));
    if (next.done) throw new Error(`the process at ${this.address} has ended`);
    return next.value;
  }
}
