/** Whether the host has IPsec policies: packets between nodes might be meant for one. */
import { run } from './commands.ts';

/** A kernel without XFRM has none: the command fails there, and lists nothing. */
export async function hasIpsecPolicies(): Promise<boolean> {
  const { stdout } = await run(['ip', 'xfrm', 'policy', 'list']);
  return stdout.trim() !== '';
}
