/**
 * Which capabilities an agent keeps, and when it gives up the others. That replaces the process by itself, and whatever
 * is loaded by then is loaded twice: so it is done before the command's own modules are, as far as the words say what
 * will be needed; the command asks again when it has understood them.
 */
import { CAPABILITY, keepOnlyCapabilities } from '../io/capabilities.ts';

/** Such runs are no agents. */
const OTHER_USE = ['--cleanup', '--help', '-h'];

export function keepAgentCapabilities(mayUseFastPath: boolean): void {
  const fastPath = mayUseFastPath ? [CAPABILITY.BPF] : [];
  keepOnlyCapabilities([CAPABILITY.NET_ADMIN, CAPABILITY.NET_RAW, ...fastPath]);
}

/** `words` follow `node run` or `tunnel run`. */
export function keepAgentCapabilitiesEarly(words: readonly string[]): void {
  if (words.some((word) => OTHER_USE.includes(word))) return;
  keepAgentCapabilities(words.some((word) => word.startsWith('--fast-path')));
}
