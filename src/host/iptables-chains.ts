/**
 * What iptables-save prints, as chains to walk. iptables-nft keeps its rules where nft sees that they are there, but
 * not what they say; iptables-legacy where nft sees nothing.
 */
import type { Certainty, FirewallChain, RuleStep } from './firewall-walk.ts';
import {
  isIn,
  isInSet,
  isInterface,
  isLocal,
  isProtocol,
  type OuterPackets,
  opposite,
} from './outer-packet.ts';

/** Of the built-in tables; nat comes before filter on the way in, behind it on the way out. */
const PRIORITIES: Readonly<Record<string, number>> = { raw: -300, mangle: -150, filter: 0, security: 50 };
const NAT_PRIORITY = { outbound: 100, inbound: -100 };
const HOOKS = ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'];

export function iptablesChains(text: string, packets: OuterPackets): FirewallChain[] {
  const chains: (FirewallChain & { rules: (readonly RuleStep[])[] })[] = [];
  let table = '';
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1).trim();
    const [, name, policy] = /^:(\S+) (\S+)/.exec(line) ?? [];
    if (name !== undefined) {
      const priority = PRIORITIES[table] ?? NAT_PRIORITY[packets.direction];
      const base = HOOKS.includes(name)
        ? { base: { hook: name.toLowerCase(), priority, drops: policy === 'DROP' } }
        : {};
      chains.push({ family: 'ip', table, name, ...base, rules: [] });
    }
    if (!line.startsWith('-A ')) continue;
    const words = wordsOf(line);
    const chain = chains.find((c) => c.table === table && c.name === words[1]);
    chain?.rules.push(new RuleReader(packets, words.slice(2)).steps());
  }
  return chains;
}

/** Quotes hold blanks together; inside them a backslash takes the next character as it is. */
function wordsOf(line: string): string[] {
  return [...line.matchAll(/"((?:[^"\\]|\\.)*)"|\S+/g)].map(([word, quoted]) => quoted ?? word);
}

class RuleReader {
  readonly #packets: OuterPackets;
  readonly #words: string[];

  constructor(packets: OuterPackets, words: string[]) {
    this.#packets = packets;
    this.#words = words;
  }

  steps(): RuleStep[] {
    const steps: RuleStep[] = [];
    while (this.#words.length > 0) {
      const negated = this.#words[0] === '!';
      if (negated) this.#words.shift();
      const option = this.#words.shift()!;
      const values = this.#valuesOfOption();
      if (option === '-j' || option === '-g') {
        steps.push(this.#target(option, values[0] ?? ''));
        return steps;
      }
      const step = this.#condition(option, values, negated);
      if (step) steps.push(step);
    }
    return steps;
  }

  /** Up to the next option or its `!`. */
  #valuesOfOption(): string[] {
    const end = this.#words.findIndex((word) => word.startsWith('-') || word === '!');
    return this.#words.splice(0, end < 0 ? this.#words.length : end);
  }

  #condition(option: string, values: readonly string[], negated: boolean): RuleStep | null {
    if (option === '-m' || option === '--comment') return null;
    if (option === '--mark') {
      const [value, mask] = numbers(values[0] ?? '');
      return { step: 'match-mark', mask, value, negated };
    }
    const holds = this.#holds(option, values);
    return { step: 'match', holds: negated ? opposite(holds) : holds };
  }

  #holds(option: string, [value = '', detail = '']: readonly string[]): Certainty {
    switch (option) {
      case '-p':
        return isProtocol(value);
      case '-i':
      case '-o':
        return isInterface(value, this.#packets.tunnelDevice);
      case '-s':
      case '-d':
        return isIn(value, option === '-s' ? 'source' : 'destination', this.#packets);
      case '--match-set':
        return detail === 'src' || detail === 'dst'
          ? isInSet(value, detail === 'src' ? 'source' : 'destination', this.#packets.direction)
          : 'maybe';
      case '--src-type':
      case '--dst-type':
        if (value !== 'LOCAL' || this.#words.some((word) => word.startsWith('--limit-iface'))) return 'maybe';
        return isLocal(option === '--src-type' ? 'source' : 'destination', this.#packets.direction);
      default:
        return 'maybe';
    }
  }

  /** What follows are the target's own options. */
  #target(option: '-j' | '-g', target: string): RuleStep {
    switch (target) {
      case 'ACCEPT':
        return { step: 'accept' };
      case 'RETURN':
        return { step: 'return' };
      case 'NOTRACK':
        return { step: 'match', holds: 'always' };
      case 'CT':
        return this.#words[0] === '--notrack' ? { step: 'match', holds: 'always' } : { step: 'meddle' };
      case 'MARK':
        return this.#mark();
      case 'CONNMARK':
        return this.#words[0] === '--restore-mark'
          ? { step: 'mark', clears: 0, sets: ALL_BITS }
          : { step: 'match', holds: 'always' };
      default:
        // A chain of the user's own; an extension has no chain of its name, which the walk takes as meddling.
        return { step: option === '-j' ? 'jump' : 'goto', chain: target };
    }
  }

  /** mark = (mark & ~mask) ^ value */
  #mark(): RuleStep {
    if (this.#words[0] !== '--set-xmark') return { step: 'mark', clears: 0, sets: ALL_BITS };
    const [value, mask] = numbers(this.#words[1] ?? '');
    return { step: 'mark', clears: mask & ~value, sets: value };
  }
}

const ALL_BITS = 0xffffffff | 0;

/** `0x10000/0x1b0000`, or a value with all bits in the mask. */
function numbers(text: string): [value: number, mask: number] {
  const [value = '0', mask] = text.split('/');
  return [Number(value) | 0, mask === undefined ? ALL_BITS : Number(mask) | 0];
}
