/** IPPool: field order, defaults and refusals as Calico 3.31 has them (test/golden: pools, pool-refused). */
import * as z from 'zod/v3';
import { cidrsOverlap, hasHostBits, networkText, parseCidr } from './cidr.ts';
import { type ObjectMaker, oneOf, optionalText, type Refuse } from './fields.ts';
import { parseSelector } from './selector.ts';

const ENCAPSULATION_MODES = ['Always', 'CrossSubnet', 'Never'] as const;
const ALL_USES = ['Workload', 'Tunnel', 'LoadBalancer'];

/** Which block sizes (prefix lengths) Calico's IPAM takes, and which it takes unasked. */
const BLOCK_SIZE = { 4: { from: 20, to: 32, byDefault: 26 }, 6: { from: 116, to: 128, byDefault: 122 } };

const LINK_LOCAL = [
  { cidr: '169.254.0.0/16', name: 'IPv4 Link Local range 169.254.0.0/16' },
  { cidr: 'fe80::/10', name: 'IPv6 Link Local range fe80::/10' },
];

export function ipPoolSpec(object: ObjectMaker) {
  const shape = object({
    cidr: z.string().default(''),
    vxlanMode: oneOf(ENCAPSULATION_MODES, 'Never', { field: 'IPPool.Spec.VXLANMode' }),
    ipipMode: oneOf(ENCAPSULATION_MODES, 'Never', { field: 'IPPool.Spec.IPIPMode' }),
    natOutgoing: z.boolean().default(false),
    disabled: z.boolean().default(false),
    disableBGPExport: z.boolean().default(false),
    blockSize: z.number().int().default(0),
    nodeSelector: z
      .string()
      .default('')
      .transform((selector) => selector || 'all()'),
    namespaceSelector: optionalText,
    allowedUses: z
      .array(z.string())
      .default([])
      .transform((uses) => (uses.length ? uses : ['Workload', 'Tunnel'])),
    assignmentMode: oneOf(['Automatic', 'Manual'], 'Automatic', { field: 'IPPool.Spec.AssignmentMode' }),
  });
  return shape.transform((spec) => ({
    ...spec,
    allowedUses: spec.allowedUses as ('Workload' | 'Tunnel' | 'LoadBalancer')[],
    blockSize: spec.blockSize || BLOCK_SIZE[parseCidr(spec.cidr)?.family ?? 4].byDefault,
  }));
}

/** What pools are refused for, alone; beside others: `pool-conflicts.ts`. */
export function checkIPPool(spec: Readonly<Record<string, unknown>>, refuse: Refuse): void {
  const { cidr = '' } = spec;
  if (typeof cidr === 'string') checkCidr(cidr, spec, refuse);
  if (isOn(spec.ipipMode) && isOn(spec.vxlanMode))
    refuse(['vxlanMode'], {
      field: 'IPPool.Spec.VXLANMode',
      value: String(spec.vxlanMode),
      reason: 'Cannot enable both VXLAN and IPIP on the same IPPool',
    });
  for (const selector of ['nodeSelector', 'namespaceSelector'] as const) {
    const value = spec[selector];
    const parsed = typeof value === 'string' ? parseSelector(value) : undefined;
    if (parsed && !parsed.ok)
      refuse([selector], {
        field: `IPPool.Spec.${selector === 'nodeSelector' ? 'NodeSelector' : 'NamespaceSelector'}`,
        value: String(value),
        reason: `expected a selector, such as all() or zone == "a": ${parsed.problem}`,
      });
  }
  if (Array.isArray(spec.allowedUses)) checkUses(spec.allowedUses, refuse);
}

function isOn(mode: unknown): boolean {
  return mode === 'Always' || mode === 'CrossSubnet';
}

function checkCidr(text: string, spec: Readonly<Record<string, unknown>>, refuse: Refuse): void {
  const refuseCidr = (reason: string, value?: string) =>
    refuse(['cidr'], { field: 'IPPool.Spec.CIDR', reason, ...(value ? { value } : {}) });
  const cidr = parseCidr(text);
  if (!cidr) {
    refuseCidr(text ? 'IPPool CIDR must be a valid subnet' : 'IPPool CIDR must be specified', text);
    return;
  }
  // Calico prints the network, not what was given.
  if (hasHostBits(cidr)) refuseCidr('IPPool CIDR is not strictly masked', networkText(cidr));
  for (const range of LINK_LOCAL) {
    const linkLocal = parseCidr(range.cidr);
    if (linkLocal && cidrsOverlap(linkLocal, cidr))
      refuseCidr(`IPPool CIDR overlaps with ${range.name}`, networkText(cidr));
  }
  if (cidr.family === 6 && isOn(spec.ipipMode))
    refuse(['ipipMode'], {
      field: 'IPPool.Spec.IPIPMode',
      value: String(spec.ipipMode),
      reason: 'IPIP is not supported on an IPv6 IP pool',
    });
  const { from, to, byDefault } = BLOCK_SIZE[cidr.family];
  const blockSize = typeof spec.blockSize === 'number' && spec.blockSize ? spec.blockSize : byDefault;
  if (blockSize < from || blockSize > to)
    refuse(['blockSize'], {
      field: 'IPPool.Spec.BlockSize',
      value: String(blockSize),
      reason: `IPv${cidr.family} block size must be between ${from} and ${to}`,
    });
  else if (cidr.length > blockSize)
    refuseCidr(
      'IP pool size is too small for use with Calico IPAM. It must be equal to or greater than the block size.',
      networkText(cidr),
    );
}

function checkUses(uses: readonly unknown[], refuse: Refuse): void {
  const field = 'IPPool.Spec.AllowedUses';
  const value = `[${uses.join(' ')}]`;
  const unknown = uses.find((use) => !ALL_USES.includes(String(use)));
  if (unknown !== undefined)
    refuse(['allowedUses'], {
      field,
      value,
      reason: `unknown use: ${unknown}; expected ${ALL_USES.join(', ')}`,
    });
  else if (uses.includes('LoadBalancer') && uses.length > 1)
    refuse(['allowedUses'], { field, value, reason: 'LoadBalancer cannot be combined with other uses' });
}
