/** Whether the host has IPsec policies: packets between nodes might be meant for one. */
import { run } from './commands.ts';

/**
 * A kernel without XFRM has none: the command fails there, and lists nothing.
 * @param enter words that lead into another namespace, before the command
 */
export async function hasIpsecPolicies(enter: readonly string[] = []): Promise<boolean> {
  const { stdout } = await run([...enter, 'ip', 'xfrm', 'policy', 'list']);
  return stdout.trim() !== '';
}
