/**
 * `node without-packet-sockets.mjs PROGRAM WORD…`: becomes that program, with packet sockets forbidden as a unit of
 * systemd does by RestrictAddressFamilies= (seccomp; socket(AF_PACKET) fails with EAFNOSUPPORT).
 */
import { createRequire } from 'node:module';

const koffi = createRequire(import.meta.url)('koffi');
const library = koffi.load('libc.so.6');
const prctl = library.func('int prctl(int, unsigned long, void *, unsigned long, unsigned long)');
const execvp = library.func('int execvp(const char *file, const char **argv)');
const fcntl = library.func('int fcntl(int, int, long)');

const [PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER] = [38, 22, 2];
const [LOAD_WORD, JUMP_EQUAL, RETURN] = [0x20, 0x15, 0x06];
const SOCKET_CALL = process.arch === 'arm64' ? 198 : 41;
const [OFFSET_NUMBER, OFFSET_FIRST_ARGUMENT] = [0, 16];
const [AF_PACKET, EAFNOSUPPORT] = [17, 97];
const [ALLOW, FAIL_WITH] = [0x7fff0000, 0x00050000];

const filter = [
  [LOAD_WORD, 0, 0, OFFSET_NUMBER],
  [JUMP_EQUAL, 0, 3, SOCKET_CALL],
  [LOAD_WORD, 0, 0, OFFSET_FIRST_ARGUMENT],
  [JUMP_EQUAL, 0, 1, AF_PACKET],
  [RETURN, 0, 0, FAIL_WITH | EAFNOSUPPORT],
  [RETURN, 0, 0, ALLOW],
];
const instructions = Buffer.alloc(filter.length * 8);
for (const [i, [code, yes, no, value]] of filter.entries()) {
  instructions.writeUInt16LE(code, i * 8);
  instructions.writeUInt8(yes, i * 8 + 2);
  instructions.writeUInt8(no, i * 8 + 3);
  instructions.writeUInt32LE(value, i * 8 + 4);
}
const program = Buffer.alloc(16);
program.writeUInt16LE(filter.length, 0);
program.writeBigUInt64LE(BigInt(koffi.address(instructions)), 8);

if (
  prctl(PR_SET_NO_NEW_PRIVS, 1, null, 0, 0) < 0 ||
  prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0) < 0
)
  throw new Error(`prctl failed: errno ${koffi.errno()}`);
for (const fd of [0, 1, 2]) fcntl(fd, 2, 0);
const words = process.argv.slice(2);
execvp(words[0], [...words, null]);
throw new Error(`${words[0]} could not be started: errno ${koffi.errno()}`);
