/**
 * What a host's firewall could do to an outer packet, without sending one: the rules are walked as the kernel walks
 * them, with what is known of every such packet (protocol 4, from one node to another, by no workload's interface,
 * with no mark) and `maybe` for all else. A rule that may drop, change or do what we do not know forbids.
 */

/** Whether every outer packet meets a condition. */
export type Certainty = 'never' | 'maybe' | 'always';

/** Part of a rule: a condition, or what is done where all conditions before it hold. */
export type RuleStep =
  | { readonly step: 'match'; readonly holds: Certainty }
  /** (mark & mask) == value, or its opposite. */
  | { readonly step: 'match-mark'; readonly mask: number; readonly value: number; readonly negated: boolean }
  /** Bits of the mark that become 0, and bits of which nothing is known any more. */
  | { readonly step: 'mark'; readonly clears: number; readonly sets: number }
  /** Ends the base chain. */
  | { readonly step: 'accept' }
  | { readonly step: 'return' }
  | { readonly step: 'jump' | 'goto'; readonly chain: string }
  /** Drops, changes, logs, or is unknown to us. */
  | { readonly step: 'meddle' };

export interface FirewallChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  /** Base chains only. */
  readonly base?: { readonly hook: string; readonly priority: number; readonly drops: boolean };
  readonly rules: readonly (readonly RuleStep[])[];
}

/** The order in which packets come by. */
export const INBOUND_HOOKS = ['ingress', 'prerouting', 'input'] as const;
export const OUTBOUND_HOOKS = ['output', 'postrouting', 'egress'] as const;

/** Deeper than the kernel lets jumps go (NFT_JUMP_STACK_SIZE). */
const DEEPEST_JUMP = 16;

type End = 'forbidden' | 'goes on' | 'is accepted';

/** The first base chain on the way by `hooks` that may meddle with outer packets; null where none does. */
export function forbiddingChain(chains: readonly FirewallChain[], hooks: readonly string[]): string | null {
  const byName = new Map(chains.map((chain) => [`${chain.family} ${chain.table} ${chain.name}`, chain]));
  const walk = new Walk(byName);
  const onTheWay = chains
    .filter((chain) => chain.base && hooks.includes(chain.base.hook))
    .sort(
      (a, b) =>
        hooks.indexOf(a.base!.hook) - hooks.indexOf(b.base!.hook) || a.base!.priority - b.base!.priority,
    );
  for (const chain of onTheWay) {
    const end = walk.through(chain, true, 0);
    if (end === 'forbidden' || (end === 'goes on' && chain.base!.drops))
      return `${chain.family} ${chain.table} ${chain.name}`;
  }
  return null;
}

class Walk {
  readonly #chains: ReadonlyMap<string, FirewallChain>;
  /** Bits of the mark that may be set: none on a packet from the wire or from our socket. */
  #unknownMark = 0;

  constructor(chains: ReadonlyMap<string, FirewallChain>) {
    this.#chains = chains;
  }

  /** `surely`: whether every outer packet comes here. */
  through(chain: FirewallChain, surely: boolean, depth: number): End {
    if (depth > DEEPEST_JUMP) return 'forbidden';
    for (const rule of chain.rules) {
      const end = this.#rule(chain, rule, surely, depth);
      if (end === 'return') return 'goes on';
      if (end !== 'goes on') return end;
    }
    return 'goes on';
  }

  #rule(chain: FirewallChain, rule: readonly RuleStep[], surely: boolean, depth: number): End | 'return' {
    let certain = true;
    for (const step of rule) {
      const holds = this.#holds(step);
      if (holds === 'never') return 'goes on';
      if (holds === 'maybe') certain = false;
      const end = this.#does(chain, step, surely && certain, depth);
      if (end === 'forbidden') return end;
      // Where the rule may not apply, what follows it must be walked as well.
      if (end !== 'goes on') return certain ? end : 'goes on';
    }
    return 'goes on';
  }

  #holds(step: RuleStep): Certainty {
    if (step.step === 'match') return step.holds;
    if (step.step !== 'match-mark') return 'always';
    const { mask, value, negated } = step;
    const impossible = (value & ~this.#unknownMark) !== 0;
    const certain = value === 0 && (mask & this.#unknownMark) === 0;
    if (!impossible && !certain) return 'maybe';
    return certain === negated ? 'never' : 'always';
  }

  #does(chain: FirewallChain, step: RuleStep, surely: boolean, depth: number): End | 'return' {
    switch (step.step) {
      case 'match':
      case 'match-mark':
        return 'goes on';
      case 'mark':
        if (surely) this.#unknownMark &= ~step.clears;
        this.#unknownMark |= step.sets;
        return 'goes on';
      case 'accept':
        return 'is accepted';
      case 'return':
        return 'return';
      case 'jump':
      case 'goto': {
        const target = this.#chains.get(`${chain.family} ${chain.table} ${step.chain}`);
        const end = target ? this.through(target, surely, depth + 1) : 'forbidden';
        return end === 'goes on' && step.step === 'goto' ? 'return' : end;
      }
      case 'meddle':
        return 'forbidden';
    }
  }
}
