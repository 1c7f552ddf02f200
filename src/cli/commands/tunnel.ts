/** `tortie tunnel run|status`: what each does is loaded when it is asked for. */
import { handler, newCommand, runCommand } from '../command-line.ts';
import { addDataPlaneOptions } from '../data-plane-options.ts';

export async function run(argv: readonly string[]): Promise<number> {
  const tunnel = newCommand(
    'tunnel',
    'The tunnel device alone: behaves as the kernel’s tunl0 for the routes that others put on it',
  );
  const device = tunnel
    .command('run')
    .description('serve the device in the foreground; addresses, routes, up and down are other people’s')
    .option('--device <name>', 'made where it does not exist, else adopted', 'tunl0')
    .option('--local <address>', "source of the outer header; default: the kernel's choice for each next hop")
    .option(
      '--mtu <bytes>',
      'a number is set at every start; auto: once, on a device that we make, the underlay’s less the overhead',
      'auto',
    )
    .option(
      '--allow <cidr[,…]|any>',
      'hosts that may send any inner source that is not ours, besides the next hops of our routes',
    )
    .option(
      '--guard <cidr[,…]>',
      'pools that must not leave plain by the default route while their routes are gone: unreachable beneath them, also when we have stopped',
    );
  addDataPlaneOptions(device, { senderNeeds: '--local' })
    .option(
      '--cleanup',
      'take away what --pin and --guard left for the device, and end; device and other routes stay',
    )
    .action(handler(async (options) => (await import('./tunnel-run.ts')).tunnelRun(options)));
  tunnel
    .command('status')
    .description('what the process that serves the device does')
    .option('--device <name>', 'as it was given to `tunnel run`', 'tunl0')
    .option('--json', 'for programs')
    .action(handler(async (options) => (await import('./tunnel-status.ts')).tunnelStatus(options)));
  return runCommand(tunnel, argv);
}
