/**
 * What a packet thread runs for each of its sources (run-loop.ts). Classes, not closures: the loop calls them by their
 * class then, which V8 compiles into it, where a closure is called by way of a builtin that looks at what it is.
 */
import type { IcmpListener } from './icmp-listener.ts';
import type { Inbound } from './inbound.ts';
import type { Outbound } from './outbound.ts';
import { PromptAnswers } from './prompt-answers.ts';
import type { PacketStep } from './run-loop.ts';

/** From the TUN. After a long silence a packet is sent before it is asked whether there is a second one. */
export class OutboundStep implements PacketStep {
  readonly capacity: number;
  readonly #outbound: Outbound;

  constructor(outbound: Outbound, capacity: number) {
    this.#outbound = outbound;
    this.capacity = capacity;
  }

  run(quiet: boolean): number {
    return this.#outbound.step(quiet ? 1 : this.capacity);
  }
}

/** What routers say about packets of ours, and our answers to inner senders because of it. */
export class ErrorStep implements PacketStep {
  readonly capacity: number;
  readonly #listener: IcmpListener;
  readonly #outbound: Outbound;

  constructor(listener: IcmpListener, outbound: Outbound, capacity: number) {
    this.#listener = listener;
    this.#outbound = outbound;
    this.capacity = capacity;
  }

  run(): number {
    const messages = this.#listener.step();
    this.#outbound.sendReplies();
    return messages;
  }
}

/** The TUN once more, after packets have been written to it: the host has answered some of them by then. */
export class AnswerStep {
  readonly #outbound: OutboundStep;
  readonly #answers = new PromptAnswers();

  constructor(outbound: OutboundStep) {
    this.#outbound = outbound;
  }

  run(quiet: boolean): void {
    if (this.#answers.isDue()) this.#answers.found(this.#outbound.run(quiet));
  }
}

/** Protocol 4 from the underlay. */
export class InboundStep implements PacketStep {
  readonly capacity: number;
  readonly rest: () => void;
  readonly #inbound: Inbound;
  readonly #answers: AnswerStep | undefined;

  constructor(inbound: Inbound, answers: AnswerStep | undefined, capacity: number, rest: () => void) {
    this.#inbound = inbound;
    this.#answers = answers;
    this.capacity = capacity;
    this.rest = rest;
  }

  run(quiet: boolean): number {
    const packets = this.#inbound.step();
    if (packets > 0) this.#answers?.run(quiet);
    return packets;
  }
}

/** Datagrams of the `udp` transport. */
export class DatagramStep implements PacketStep {
  readonly capacity: number;
  readonly #inbound: Inbound;
  readonly #answers: AnswerStep | undefined;

  constructor(inbound: Inbound, answers: AnswerStep | undefined, capacity: number) {
    this.#inbound = inbound;
    this.#answers = answers;
    this.capacity = capacity;
  }

  run(quiet: boolean): number {
    const packets = this.#inbound.stepDatagrams();
    if (packets > 0) this.#answers?.run(quiet);
    return packets;
  }
}
