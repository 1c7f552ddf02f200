/** What is told of how protocol 4 is sent: as it was asked for, how many peers get frames, and their share. */
import type { SenderMode } from './data-plane-settings.ts';

export interface SenderState {
  readonly mode: SenderMode;
  /** Peers that are sent frames now; all others are sent by raw sockets. */
  readonly framedPeers: number;
  /** Why there are no frames; null where peers may get them. */
  readonly why: string | null;
}

export const SENDER_STARTING: SenderState = { mode: 'raw', framedPeers: 0, why: 'not started yet' };

/** For people. */
export function senderLine(state: SenderState, counters: Readonly<Record<string, number>>): string {
  const count = (name: string) => counters[`outbound_${name}_packets`] ?? 0;
  // The fast path has a share of its own.
  const all = count('out_underlay') - count('note_fast');
  const frames = count('note_frames');
  const share = frames === 0 ? '' : `; ${((100 * frames) / all).toFixed(1)} % of ${all} packets as frames`;
  const now =
    state.why === null
      ? `frames to ${state.framedPeers} peers, raw sockets to the others`
      : `raw sockets: ${state.why}`;
  return now + share;
}
