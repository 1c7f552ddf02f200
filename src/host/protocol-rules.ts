/** Whether rules of policy routing ask for a protocol (`ip rule … ipproto`): whoever asks the kernel for a route cannot say protocol 4. */
import { run } from './commands.ts';

/** @param enter words that lead into another namespace, before the command */
export async function hasProtocolRules(enter: readonly string[] = []): Promise<boolean> {
  const { stdout } = await run([...enter, 'ip', '-4', 'rule', 'list']);
  return / ipproto /.test(stdout);
}
