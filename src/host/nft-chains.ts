/** What `nft -j list ruleset` prints (libnftables-json(5)), as chains to walk. */
import type { Certainty, FirewallChain, RuleStep } from './firewall-walk.ts';
import {
  anyOf,
  isIn,
  isInSet,
  isInterface,
  isLocal,
  isProtocol,
  type OuterPackets,
  opposite,
} from './outer-packet.ts';

interface ListedChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook?: string;
  readonly prio?: number;
  readonly policy?: string;
}

interface ListedRule {
  readonly family: string;
  readonly table: string;
  readonly chain: string;
  readonly expr: readonly Statement[];
}

interface ListedMap {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly elem?: readonly unknown[];
}

export interface Listed {
  readonly chain?: ListedChain;
  readonly rule?: ListedRule;
  readonly map?: ListedMap;
}

type Statement = Readonly<Record<string, unknown>>;

interface Expression {
  readonly meta?: { readonly key: string };
  readonly payload?: { readonly protocol?: string; readonly field?: string };
  readonly fib?: { readonly result: string; readonly flags?: string | readonly string[] };
  readonly '&'?: readonly [Expression, unknown];
  readonly '|'?: readonly [Expression, unknown];
  readonly '^'?: readonly [Expression, unknown];
}

/** Statements of iptables-nft that nft cannot read. */
export const hasForeignStatements = ({ expr }: ListedRule): boolean => expr.some((e) => 'xt' in e);

export function nftChains(listed: readonly Listed[], packets: OuterPackets): FirewallChain[] {
  const key = (family: string, table: string, name: string) => `${family} ${table} ${name}`;
  const maps = new Map(listed.flatMap(({ map: m }) => (m ? [[key(m.family, m.table, m.name), m]] : [])));
  const rules = new Map<string, (readonly RuleStep[])[]>();
  for (const { rule } of listed) {
    if (!rule) continue;
    const reader = new RuleReader(packets, (name) => maps.get(key(rule.family, rule.table, name)));
    const chain = key(rule.family, rule.table, rule.chain);
    rules.set(chain, [...(rules.get(chain) ?? []), ...reader.read(rule.expr)]);
  }
  return listed.flatMap(({ chain }) => {
    if (!chain) return [];
    const { family, table, name, hook, prio = 0, policy } = chain;
    const base = hook === undefined ? {} : { base: { hook, priority: prio, drops: policy === 'drop' } };
    return [{ family, table, name, ...base, rules: rules.get(key(family, table, name)) ?? [] }];
  });
}

const match = (holds: Certainty): RuleStep => ({ step: 'match', holds });
const MEDDLES: RuleStep = { step: 'meddle' };
const ALL_BITS = 0xffffffff | 0;

class RuleReader {
  readonly #packets: OuterPackets;
  readonly #map: (name: string) => ListedMap | undefined;

  constructor(packets: OuterPackets, map: (name: string) => ListedMap | undefined) {
    this.#packets = packets;
    this.#map = map;
  }

  /** One rule; several where it ends in a map of verdicts: one for each of its keys. */
  read(statements: readonly Statement[]): (readonly RuleStep[])[] {
    const steps: RuleStep[] = [];
    for (const statement of statements) {
      if ('vmap' in statement) return this.#verdicts(statement.vmap as VerdictMap, steps);
      steps.push(this.#step(statement));
    }
    return [steps];
  }

  #step(statement: Statement): RuleStep {
    const [kind, value] = Object.entries(statement)[0] ?? ['', null];
    switch (kind) {
      case 'match':
        return this.#match(value as Match);
      case 'counter':
      case 'notrack':
        return match('always');
      case 'limit':
      case 'ct count':
        return match('maybe');
      case 'mangle':
        return mangle(value as { key: Expression; value: unknown });
      case 'accept':
      case 'return':
        return { step: kind };
      case 'jump':
      case 'goto':
        return { step: kind, chain: (value as { target: string }).target };
      default:
        return MEDDLES;
    }
  }

  #verdicts({ key, data }: VerdictMap, before: readonly RuleStep[]): (readonly RuleStep[])[] {
    const pairs = typeof data === 'string' ? this.#map(data.slice(1))?.elem : data.set;
    if (typeof data === 'string' && !this.#map(data.slice(1))) return [[...before, MEDDLES]];
    return ((pairs ?? []) as [unknown, Statement][]).map(([value, verdict]) => [
      ...before,
      this.#match({ op: '==', left: key, right: value }),
      this.#step(verdict),
    ]);
  }

  #match({ op, left, right }: Match): RuleStep {
    if (op !== '==' && op !== '!=') return match('maybe');
    const mark = markMatch(left, right, op === '!=');
    if (mark) return mark;
    const values = valuesOf(right);
    const holds = values ? anyOf(values.map((value) => this.#holds(left, value))) : 'maybe';
    return match(op === '!=' ? opposite(holds) : holds);
  }

  #holds(left: Expression, value: string): Certainty {
    if (left.meta) return this.#metaHolds(left.meta.key, value);
    if (left.payload) return this.#payloadHolds(left.payload.protocol, left.payload.field, value);
    if (left.fib?.result !== 'type' || value !== 'local') return 'maybe';
    const flags = [left.fib.flags ?? []].flat();
    if (flags.length !== 1) return 'maybe';
    return isLocal(flags[0] === 'saddr' ? 'source' : 'destination', this.#packets.direction);
  }

  #metaHolds(key: string, value: string): Certainty {
    if (key === 'l4proto') return isProtocol(value);
    if (key === 'iifname' || key === 'oifname') return isInterface(value, this.#packets.tunnelDevice);
    if (key === 'nfproto') return value === 'ipv4' ? 'always' : 'never';
    return 'maybe';
  }

  #payloadHolds(protocol: string | undefined, field: string | undefined, value: string): Certainty {
    if (protocol === 'ip') {
      if (field === 'protocol') return isProtocol(value);
      if (field !== 'saddr' && field !== 'daddr') return 'maybe';
      const end = field === 'saddr' ? 'source' : 'destination';
      return value.startsWith('@')
        ? isInSet(value.slice(1), end, this.#packets.direction)
        : isIn(value, end, this.#packets);
    }
    if (protocol === 'ip6') return 'never';
    return protocol === undefined || protocol === 'th' ? 'maybe' : isProtocol(protocol);
  }
}

interface Match {
  readonly op: string;
  readonly left: Expression;
  readonly right: unknown;
}

interface VerdictMap {
  readonly key: Expression;
  readonly data: string | { readonly set: readonly unknown[] };
}

const isMark = (expression: unknown): boolean => (expression as Expression | null)?.meta?.key === 'mark';

function markMatch(left: Expression, right: unknown, negated: boolean): RuleStep | null {
  const [of, mask] = left['&'] ?? [left, ALL_BITS];
  if (!isMark(of)) return null;
  if (typeof mask !== 'number' || typeof right !== 'number') return match('maybe');
  return { step: 'match-mark', mask: mask | 0, value: right | 0, negated };
}

/** `meta mark set …`; what else a packet is given is meddling, but for what only connections remember. */
function mangle({ key, value }: { key: Expression & { ct?: unknown }; value: unknown }): RuleStep {
  if (key.ct) return match('always');
  if (!isMark(key)) return MEDDLES;
  return { step: 'mark', ...markChange(value) };
}

function markChange(value: unknown): { clears: number; sets: number } {
  if (typeof value === 'number') return { clears: ~value, sets: value | 0 };
  for (const operator of ['&', '|', '^'] as const) {
    const operands = (value as Expression)[operator];
    if (!operands || typeof operands[1] !== 'number') continue;
    const before = isMark(operands[0]) ? { clears: 0, sets: 0 } : markChange(operands[0]);
    const operand = operands[1] | 0;
    return operator === '&'
      ? { clears: before.clears | ~operand, sets: before.sets & operand }
      : { clears: before.clears & ~operand, sets: before.sets | operand };
  }
  return { clears: 0, sets: ALL_BITS };
}

/** The values that a match allows; null where they are no list of single ones. */
function valuesOf(right: unknown): string[] | null {
  if (typeof right === 'string' || typeof right === 'number') return [String(right)];
  const { set, prefix } = right as { set?: unknown[]; prefix?: { addr: string; len: number } };
  if (prefix) return [`${prefix.addr}/${prefix.len}`];
  const values = set?.map(valuesOf);
  return values && !values.includes(null) ? (values as string[][]).flat() : null;
}
