/**
 * YAML as Calico's client prints it: keys sorted, lists not indented, plain strings where they read back as the same
 * string, otherwise quoted. Small on purpose: `get` need not load a YAML library. Reading is the library's.
 */
import type { Json } from '../../model/encode.ts';

/** What YAML 1.1 or 1.2 would read as something else than a string. */
const READS_AS_OTHER =
  /^(?:~|null|Null|NULL|true|True|TRUE|false|False|FALSE|y|Y|yes|Yes|YES|n|N|no|No|NO|on|On|ON|off|Off|OFF|<<|=|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)|[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?|[-+]?\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?0[xob][0-9a-fA-F_]*|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt \t].*)?)$/;

/** First characters that mean something else in a plain scalar, and sequences that end one. */
const NOT_PLAIN = /^[-?:](?:\s|$)|^[\s,[\]{}#&*!|>'"%@`]|:(?:\s|$)|\s#|\s$|^---|^\.\.\./;

const CONTROL = /[^\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\u{10000}-\u{10ffff}]/u;

export function yaml(value: Json): string {
  if (!isContainer(value) || isEmptyContainer(value)) return `${inline(value)}\n`;
  return block(value, '');
}

type Container = readonly Json[] | { readonly [key: string]: Json };

function isContainer(value: Json): value is Container {
  return typeof value === 'object' && value !== null;
}

function isEmptyContainer(value: Container): boolean {
  return Object.keys(value).length === 0;
}

function inline(value: Json): string {
  if (isContainer(value)) return Array.isArray(value) ? '[]' : '{}';
  return typeof value === 'string' ? scalar(value) : String(value);
}

function block(value: Container, indent: string): string {
  if (Array.isArray(value)) return value.map((item: Json) => `${indent}- ${itemText(item, indent)}`).join('');
  return Object.entries(value)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, field]) => `${indent}${scalar(key)}:${fieldText(field, indent)}`)
    .join('');
}

/** Behind `- `, where the first key of an object stands on the same line. */
function itemText(item: Json, indent: string): string {
  if (!isContainer(item) || isEmptyContainer(item)) return `${inline(item)}\n`;
  return block(item, `${indent}  `).slice(indent.length + 2);
}

function fieldText(field: Json, indent: string): string {
  if (!isContainer(field) || isEmptyContainer(field)) return ` ${inline(field)}\n`;
  return `\n${block(field, Array.isArray(field) ? indent : `${indent}  `)}`;
}

function scalar(text: string): string {
  if (text === '' || READS_AS_OTHER.test(text) || CONTROL.test(text)) return JSON.stringify(text);
  return NOT_PLAIN.test(text) ? `'${text.replaceAll("'", "''")}'` : text;
}
