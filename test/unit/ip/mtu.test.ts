import { expect, test } from 'vitest';
import { overlayMtu, type UnderlayMtu } from '../../../src/ip/mtu.ts';

test.each([
  [1500, 'ipip', 1480],
  [9001, 'ipip', 8981],
  [1500, 'udp', 1472],
] as const)('an underlay of %d leaves %s an overlay of %d', (underlay, transport, overlay) => {
  expect(overlayMtu(underlay as UnderlayMtu, transport)).toBe(overlay);
});
