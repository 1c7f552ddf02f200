/** The log of a running agent: pino on stderr, JSON lines, or readable ones in a terminal. */
import { isatty } from 'node:tty';
import pino from 'pino';
import pretty from 'pino-pretty';
import type { Logger } from '../base/logger.ts';

const STDERR = 2;

export function createLogger(level: string, fields: object): Logger {
  // Written at once: what a crash would lose is what one wants to read after it.
  const destination = isatty(STDERR)
    ? pretty({ destination: STDERR, sync: true, ignore: 'pid,hostname,node' })
    : pino.destination({ dest: STDERR, sync: true });
  return pino({ level, base: fields, serializers: { error: pino.stdSerializers.err } }, destination);
}
