/** Why the host did not take an outer packet, as the drop reason that it is counted under. */
import {
  OUTBOUND_BUFFER_FULL,
  OUTBOUND_FIREWALL,
  OUTBOUND_LINK_DOWN,
  OUTBOUND_LINK_MTU,
  OUTBOUND_NO_UNDERLAY_ROUTE,
  OUTBOUND_REFUSED,
} from './counters.ts';
import { SEND_AGAIN, SEND_DOWN, SEND_FORBIDDEN, SEND_NO_ROUTE, SEND_TOO_BIG } from './ports.ts';

export function dropReason(failure: number): number {
  switch (failure) {
    case SEND_AGAIN:
      return OUTBOUND_BUFFER_FULL;
    case SEND_TOO_BIG:
      return OUTBOUND_LINK_MTU;
    case SEND_NO_ROUTE:
      return OUTBOUND_NO_UNDERLAY_ROUTE;
    case SEND_FORBIDDEN:
      return OUTBOUND_FIREWALL;
    case SEND_DOWN:
      return OUTBOUND_LINK_DOWN;
    default:
      return OUTBOUND_REFUSED;
  }
}
