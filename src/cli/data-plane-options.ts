/** The flags that shape a data plane and what it tells, the same in every command that runs one. */
import type { Command } from 'commander';

/** `senderNeeds`: what frames, and with them any sender but raw, cannot do without. */
export function addDataPlaneOptions(command: Command, { senderNeeds = '' } = {}): Command {
  return command
    .option('--transport <transport>', 'ipip (protocol 4), udp, or auto (both)', 'ipip')
    .option('--udp-port <port>', 'of the udp transport', '5555')
    .option(
      '--sender <sender>',
      'how protocol 4 leaves: auto (by packet sockets, which are faster, where no firewall is gone around), ' +
        `raw, packet (or fail)${senderNeeds === '' ? '' : `; needs ${senderNeeds}`}`,
      'auto',
    )
    .option(
      '--queues <number>',
      'of the device, each read by a thread of its own: more where outbound is to use several cores',
      '1',
    )
    .option(
      '--fast-path <mode>',
      'eBPF programs for the bulk: auto (where they may run), ebpf (or fail), off',
      'off',
    )
    .option(
      '--pin',
      'let the fast path go on while no process serves the device: across restarts and upgrades',
    )
    .option('--metrics <address>', 'serve Prometheus metrics: [HOST:]PORT')
    .option('--log-level <level>', 'debug, info, warn or error', process.env.TORTIE_LOG_LEVEL || 'info');
}
