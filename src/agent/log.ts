/** The log of a running agent: pino on stderr, JSON lines, or readable ones in a terminal. */
import { createRequire } from 'node:module';
import { isatty } from 'node:tty';
import pino from 'pino';
import type { Logger } from '../base/logger.ts';

const STDERR = 2;
/** Loaded only for people: it takes as long as pino itself. */
function prettyStream(): NodeJS.WritableStream {
  const pretty: typeof import('pino-pretty') = createRequire(import.meta.url)('pino-pretty');
  return pretty({ destination: STDERR, sync: true, ignore: 'pid,hostname,node' });
}

export function createLogger(level: string, fields: object): Logger {
  // Written at once: what a crash would lose is what one wants to read after it.
  const destination = isatty(STDERR) ? prettyStream() : pino.destination({ dest: STDERR, sync: true });
  return pino({ level, base: fields, serializers: { error: pino.stdSerializers.err } }, destination);
}
