/**
 * Switches below /proc/sys, and the memory of what they were: kept in a file, so that `--cleanup` can put back
 * what an agent changed long ago. A value is remembered once, before the first change.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';

/** The value; undefined where the kernel has no such switch. */
export function readSysctl(name: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/${name}`, 'utf8').trim();
  } catch {
    return undefined;
  }
}

export function writeSysctl(name: string, value: string): void {
  writeFileSync(`/proc/sys/${name}`, `${value}\n`);
}

export class SysctlMemory {
  readonly #path: string;
  #values: Record<string, string> | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  /** Remembers the value that is there now, unless an earlier one is known. */
  remember(name: string): void {
    const values = this.#load();
    const value = readSysctl(name);
    if (name in values || value === undefined) return;
    values[name] = value;
    const temporary = `${this.#path}.tmp`;
    writeFileSync(temporary, `${JSON.stringify(values, null, 2)}\n`, { mode: 0o600 });
    renameSync(temporary, this.#path);
  }

  /** Puts back every remembered value whose switch still exists, and forgets them. Gives the names. */
  restore(): string[] {
    const restored: string[] = [];
    for (const [name, value] of Object.entries(this.#load())) {
      if (readSysctl(name) === undefined) continue;
      writeSysctl(name, value);
      restored.push(name);
    }
    rmSync(this.#path, { force: true });
    this.#values = undefined;
    return restored;
  }

  #load(): Record<string, string> {
    if (!this.#values) {
      try {
        this.#values = JSON.parse(readFileSync(this.#path, 'utf8')) as Record<string, string>;
      } catch {
        this.#values = {};
      }
    }
    return this.#values;
  }
}
