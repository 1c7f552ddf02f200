/** `-o`: what it may say. */
import { UsageError } from '../../base/errors.ts';

export type OutputFormat =
  | { readonly type: 'table'; readonly shown: 'narrow' | 'wide' | readonly string[] }
  | { readonly type: 'yaml' }
  | { readonly type: 'json' }
  | { readonly type: 'name' };

export const OUTPUT_FORMATS = 'ps, wide, yaml, json, name, custom-columns=A,B';

export function parseOutputFormat(text: string): OutputFormat {
  switch (text) {
    case 'ps':
      return { type: 'table', shown: 'narrow' };
    case 'wide':
      return { type: 'table', shown: 'wide' };
    case 'yaml':
    case 'json':
    case 'name':
      return { type: text };
  }
  if (text.startsWith('custom-columns')) return { type: 'table', shown: customColumns(text) };
  if (text.startsWith('go-template'))
    throw new UsageError(`output format '${text}' is not supported`, {
      hint: `Go templates need Go; expected one of ${OUTPUT_FORMATS}.`,
    });
  throw new UsageError(`unrecognized output format '${text}'`, {
    hint: `Expected one of ${OUTPUT_FORMATS}.`,
  });
}

function customColumns(text: string): readonly string[] {
  const columns = /^custom-columns=(.+)$/.exec(text)?.[1]?.split(',');
  if (!columns) throw new UsageError('need to specify at least one column');
  return columns.map((column) => column.trim().toUpperCase());
}
