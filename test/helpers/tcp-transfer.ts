/** A TCP transfer between two namespaces by two Node processes, with a deadline; the receiver hashes what it got. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';

const DEADLINE_MS = 30_000;

const RECEIVER = `
const server = require('node:net').createServer((socket) => {
  const hash = require('node:crypto').createHash('sha256');
  socket.on('data', (data) => hash.update(data));
  socket.on('end', () => { socket.end(hash.digest('hex')); server.close(); });
});
server.listen(5001, process.argv[1], () => console.log('ready'));`;

const SENDER = `
const [address, local, count] = process.argv.slice(1);
const chunk = Buffer.alloc(65536);
for (let i = 0; i < chunk.length; i++) chunk[i] = (i * 7 + (i >> 8)) & 255;
const socket = require('node:net').connect({ host: address, port: 5001, localAddress: local }, async () => {
  for (let i = 0; i < Number(count); i++) {
    chunk.writeUInt32BE(i);
    if (!socket.write(Buffer.from(chunk))) await new Promise((resolve) => socket.once('drain', resolve));
  }
  socket.end();
});
socket.setEncoding('utf8');
socket.on('data', (text) => process.stdout.write(text));`;

function start(namespace: string, script: string, words: readonly string[]): ChildProcess {
  return spawn('ip', ['netns', 'exec', namespace, process.execPath, '-e', script, ...words], {
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: DEADLINE_MS,
  });
}

async function output(child: ChildProcess): Promise<string> {
  let text = '';
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  await once(child, 'close');
  return text;
}

/** Sends `chunks` of 64 KB; whether the receiver's hash is that of what was sent, and how long it took. */
export async function transfer(options: {
  from: string;
  fromAddress: string;
  to: string;
  toAddress: string;
  chunks: number;
}): Promise<{ intact: boolean; ms: number }> {
  const receiver = start(options.to, RECEIVER, [options.toAddress]);
  await once(receiver.stdout!, 'data');
  const begin = performance.now();
  const sender = start(options.from, SENDER, [options.toAddress, options.fromAddress, `${options.chunks}`]);
  const got = await output(sender);
  const ms = performance.now() - begin;
  receiver.kill();
  return { intact: got.trim() === expectedHash(options.chunks), ms };
}

function expectedHash(chunks: number): string {
  const chunk = Buffer.alloc(65536);
  for (let i = 0; i < chunk.length; i++) chunk[i] = (i * 7 + (i >> 8)) & 255;
  const hash = createHash('sha256');
  for (let i = 0; i < chunks; i++) {
    chunk.writeUInt32BE(i);
    hash.update(chunk);
  }
  return hash.digest('hex');
}
