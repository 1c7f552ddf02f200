import { readFileSync } from 'node:fs';

/** The tables of iptables-legacy that this thread's namespace has, one a line; '' where the kernel has none of it. */
export function legacyTables(): string {
  try {
    return readFileSync('/proc/thread-self/net/ip_tables_names', 'utf8');
  } catch {
    return '';
  }
}
