/** The binding of the kernel's calls. */
import { setFlagsFromString } from 'node:v8';
import { expect, test } from 'vitest';
import { systemCalls } from '../../../src/io/libc.ts';

setFlagsFromString('--allow-natives-syntax');
/** Whether V8 knows where each property of an object lies. Compiled here, since the flag has to come first. */
const hasFastProperties = new Function('object', 'return %HasFastProperties(object)') as (
  object: object,
) => boolean;

test('the system calls were a dictionary to V8, and each call on the packet path began with a search', () => {
  expect(hasFastProperties(systemCalls())).toBe(true);
  const keyByKey: Record<string, unknown> = {};
  for (const [name, call] of Object.entries(systemCalls())) keyByKey[name] = call;
  expect(hasFastProperties(keyByKey)).toBe(false);
});
