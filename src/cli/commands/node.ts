/** `tortie node run|status|check`: what each does is loaded when it is asked for. */

import { handler, newCommand, runCommand } from '../command-line.ts';
import { addDataPlaneOptions } from '../data-plane-options.ts';
import { addDatastoreOptions } from '../datastore-options.ts';

export async function run(argv: readonly string[]): Promise<number> {
  const node = newCommand('node', 'Run and look at the agent of a node');
  const agent = node
    .command('run')
    .description('run the agent in the foreground')
    .option('--name <node>', "the node's name; default $NODENAME, else the host's name")
    .option(
      '--ip <ip>',
      'ADDRESS/LENGTH, ADDRESS or autodetect; default $IP, else what the Node resource has',
    )
    .option(
      '--ip-autodetection-method <method>',
      'first-found, can-reach=DESTINATION, interface=REGEX[,…], skip-interface=REGEX[,…] or cidr=CIDR[,…]; ' +
        'default $IP_AUTODETECTION_METHOD, else first-found',
    )
    .option('--device <name>', 'the tunnel device', 'tunl0')
    .option(
      '--mtu <bytes>',
      "of the device: auto (the underlay's less the overhead) or a number; default $FELIX_IPINIPMTU",
    );
  addDataPlaneOptions(agent).option(
    '--cleanup',
    'remove what an agent left on this host (routes, rules, device, sysctls, pins) and end',
  );
  addDatastoreOptions(agent).action(
    handler(async (options) => (await import('./node-run.ts')).nodeRun(options)),
  );
  node
    .command('status')
    .description('what the agent of a node on this host does')
    .option('--name <node>', "the node's name; default $NODENAME, else the host's name")
    .option('--json', 'for programs')
    .action(handler(async (options) => (await import('./node-status.ts')).nodeStatus(options)));
  addDatastoreOptions(
    node
      .command('check')
      .alias('checksystem')
      .description('can an agent run here, and are the subnets of the nodes as cross-subnet needs them')
      .option('--device <name>', 'the tunnel device', 'tunl0')
      .option('--json', 'for programs'),
  ).action(handler(async (options) => (await import('./node-check.ts')).nodeCheck(options)));
  return runCommand(node, argv);
}
