/** `tortie lab …`: the multi-zone cloud on one machine. The work is in src/lab; here are its words. */

import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { systemClock } from '../../base/clock.ts';
import { UsageError } from '../../base/errors.ts';
import { installedFile } from '../../base/installation.ts';
import { systemRandom } from '../../base/random.ts';
import { takeDown } from '../../lab/down.ts';
import { execInLab } from '../../lab/exec.ts';
import type { LabContext } from '../../lab/lab.ts';
import { labPaths, labsDirectory } from '../../lab/names.ts';
import { requireLab, selectLab } from '../../lab/record.ts';
import { needsHolder, runInHolder } from '../../lab/rootless.ts';
import { labDatastore, labEnvironment } from '../../lab/store.ts';
import { loadTopology } from '../../lab/topology-file.ts';
import { handler, newCommand, runCommand } from '../command-line.ts';

export async function run(argv: readonly string[]): Promise<number> {
  const world = context();
  if (needsHolder(argv, world, process.geteuid?.() ?? 0)) {
    return runInHolder(argv, world);
  }
  const command = newCommand(
    'lab',
    'A multi-zone cloud of network namespaces on this machine',
  ).enablePositionalOptions();
  addUp(command);
  addDown(command);
  addList(command);
  addExec(command);
  addEnv(command);
  addVerify(command);
  addCapture(command);
  addFault(command);
  addDemo(command);
  addRelay(command);
  return runCommand(command, argv);
}

const LAB_OPTION = [
  '--lab <name>',
  'the lab; else TORTIE_LAB, else the one that is up, else two-az',
] as const;

interface VerboseOption {
  readonly verbose?: true;
}

function context({ verbose }: VerboseOption = {}): LabContext {
  const say = (line: string) => process.stderr.write(`${line}\n`);
  return {
    labsDirectory: labsDirectory(process.env, process.geteuid?.() ?? 0),
    tortie: [process.execPath, fileURLToPath(installedFile('dist/cli/main.js'))],
    env: process.env,
    clock: systemClock,
    progress: say,
    echo: verbose ? (line) => say(`+ ${line}`) : undefined,
  };
}

function selected(given: string | undefined): string {
  return selectLab(context().labsDirectory, given, process.env);
}

function addUp(command: Command): void {
  command
    .command('up')
    .description('Bring a lab up, or put right what is missing of one that is')
    .argument('[file]', 'topology file (default: two zones, four nodes, four workloads: two-az)')
    .option('--name <name>', "the lab's name, in place of the file's")
    .option('--verbose', 'show every command that changes something')
    .action(
      handler(async (file: string | undefined, options: VerboseOption & { name?: string }) => {
        const { bringUp } = await import('../../lab/up.ts');
        const loaded = loadTopology(file, options.name);
        const world = context(options);
        const start = world.clock.monotonicMs();
        await bringUp(loaded, world);
        const seconds = ((world.clock.monotonicMs() - start) / 1000).toFixed(1);
        const { name } = loaded.topology;
        world.progress(
          `${name} is up after ${seconds} s; next: tortie lab verify, tortie lab exec HOST -- COMMAND`,
        );
      }),
    );
}

function addDown(command: Command): void {
  command
    .command('down')
    .description('Take a lab down: leaves nothing of it')
    .argument('[name]', 'as --lab')
    .option(...LAB_OPTION)
    .option('--verbose', 'show every command that changes something')
    .action(
      handler(async (name: string | undefined, options: VerboseOption & { lab?: string }) => {
        const world = context(options);
        const lab = selected(name ?? options.lab);
        const found = await takeDown(lab, world);
        world.progress(found ? `${lab} is down` : `there was nothing of a lab ${lab}`);
      }),
    );
}

function addList(command: Command): void {
  command
    .command('list')
    .description('List the labs of this machine')
    .option('--json', 'as JSON')
    .action(
      handler(async (options: { json?: true }) => {
        const { describeLabs, renderLabs } = await import('../../lab/list.ts');
        const labs = describeLabs(context().labsDirectory);
        process.stdout.write(options.json ? `${JSON.stringify(labs)}\n` : renderLabs(labs));
      }),
    );
}

function addExec(command: Command): void {
  command
    .command('exec')
    .description(
      "Run a command inside a node, workload, `router`, `internet` or `fabric`; gives the command's status",
    )
    .argument('<host>')
    .argument('<command...>')
    .option(...LAB_OPTION)
    .passThroughOptions()
    .action(
      handler(async (host: string, words: string[], options: { lab?: string }) =>
        execInLab(selected(options.lab), host, words[0] === '--' ? words.slice(1) : words, context()),
      ),
    );
}

function addEnv(command: Command): void {
  command
    .command('env')
    .description('Print what a shell needs to talk to the lab: eval "$(tortie lab env)"')
    .argument('[name]', 'as --lab')
    .option(...LAB_OPTION)
    .action(
      handler(async (name: string | undefined, options: { lab?: string }) => {
        const lab = selected(name ?? options.lab);
        const { labsDirectory: directory } = context();
        const { record } = requireLab(directory, lab);
        for (const [variable, value] of labEnvironment(lab, labPaths(directory, lab), record))
          process.stdout.write(`export ${variable}=${value}\n`);
      }),
    );
}

function addVerify(command: Command): void {
  command
    .command('verify')
    .description(
      'Send real packets between all workloads and compare what was captured with what the resources demand',
    )
    .argument('[name]', 'as --lab')
    .option(...LAB_OPTION)
    .option(
      '--containers <file>',
      'the hosts of this topology file are containers of this machine (docker-compose.yml), its datastore that of the environment',
    )
    .option('--json', 'as JSON')
    .action(
      handler(async (name: string | undefined, options: VerifyOptions) => {
        const { topology, places, datastore } = options.containers
          ? await inContainers(options.containers)
          : inLab(selected(name ?? options.lab));
        const { verifyLab } = await import('../../lab/verify.ts');
        const { openDatastore } = await import('../../store/open.ts');
        const store = await openDatastore({ datastore, env: process.env });
        try {
          const tools = { clock: systemClock, random: systemRandom };
          const { result } = await verifyLab(topology, store, tools, places);
          const { renderVerify } = await import('../../lab/verify-table.ts');
          process.stdout.write(options.json ? `${JSON.stringify(result)}\n` : renderVerify(topology, result));
          return result.ok ? 0 : 1;
        } finally {
          await store.close();
        }
      }),
    );
}

interface VerifyOptions {
  readonly lab?: string;
  readonly containers?: string;
  readonly json?: true;
}

function inLab(lab: string) {
  const { labsDirectory: directory } = context();
  const { topology, record } = requireLab(directory, lab);
  return { topology, places: undefined, datastore: labDatastore(labPaths(directory, lab), record) };
}

async function inContainers(file: string) {
  const { topology } = loadTopology(file, undefined);
  const { containerPlaces } = await import('../../lab/containers.ts');
  return { topology, places: await containerPlaces(topology, context().progress), datastore: undefined };
}

function addCapture(command: Command): void {
  command
    .command('capture')
    .description('Record what passes interfaces of the lab into a pcapng file, until Ctrl-C')
    .argument('[place...]', 'HOST (its eth0) or HOST:INTERFACE; by default the fabric at all nodes')
    .requiredOption('-w, --write <file>', 'the file; - for stdout')
    .option('--count <n>', 'end after so many packets')
    .option('--seconds <n>', 'end after so much time')
    .option(...LAB_OPTION)
    .action(
      handler(
        async (
          given: string[],
          options: { write: string; count?: string; seconds?: string; lab?: string },
        ) => {
          const { topology } = requireLab(context().labsDirectory, selected(options.lab));
          const { captureInLab, capturePlaces } = await import('../../lab/capture.ts');
          const ended = new AbortController();
          for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => ended.abort());
          const seconds = positiveNumber('--seconds', options.seconds);
          if (seconds !== undefined) setTimeout(() => ended.abort(), seconds * 1000).unref();
          const places = capturePlaces(topology, given);
          const named = places.map((place) => `${place.host}:${place.interface}`).join(', ');
          context().progress(`capturing at ${named}`);
          const count = positiveNumber('--count', options.count);
          const captured = { places, file: options.write, count, signal: ended.signal };
          const packets = await captureInLab(topology, captured, systemClock);
          context().progress(
            `${packets} packets written to ${options.write === '-' ? 'stdout' : options.write}`,
          );
        },
      ),
    );
}

function positiveNumber(option: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (value > 0 && Number.isFinite(value)) return value;
  throw new UsageError(`${option} "${text}": expected a number greater than 0`);
}

function addFault(command: Command): void {
  command
    .command('fault')
    .description('Break a link or a process of the lab, or mend it; without words, list what is broken')
    .argument('[action]', 'link-down, link-up, kill, freeze or thaw')
    .argument('[target]', 'NODE, etcd member, and for links ZONE or internet')
    .option(...LAB_OPTION)
    .option('--verbose', 'show every command that changes something')
    .action(
      handler(
        async (
          action: string | undefined,
          target: string | undefined,
          options: VerboseOption & { lab?: string },
        ) => {
          const world = context(options);
          const { topology } = requireLab(world.labsDirectory, selected(options.lab));
          const { applyFault, FAULT_ACTIONS, listFaults } = await import('../../lab/fault.ts');
          if (action === undefined) {
            for (const fault of await listFaults(topology, world)) process.stdout.write(`${fault}\n`);
            return;
          }
          const known = FAULT_ACTIONS.find((name) => name === action);
          if (!known || target === undefined)
            throw new UsageError(`expected an action (${FAULT_ACTIONS.join(', ')}) and a target`);
          world.progress(await applyFault(topology, known, target, world));
        },
      ),
    );
}

/** Not for people: what a lab on etcd runs where nobody is root (relay.ts). */
function addRelay(command: Command): void {
  command
    .command('relay', { hidden: true })
    .argument('<target...>')
    .action(
      handler(async (targets: string[]) => {
        const { runRelay } = await import('../../lab/relay.ts');
        return runRelay(targets);
      }),
    );
}

function addDemo(command: Command): void {
  command
    .command('demo')
    .description(
      'Calico\'s page "Configuring IP-in-IP" on the lab two-az, with captured packets as the proof',
    )
    .option('--keep', 'leave the lab up at the end')
    .action(
      handler(async (options: { keep?: true }) => {
        const { runDemo } = await import('../../lab/demo.ts');
        const show = (text: string) => process.stdout.write(text);
        const ok = await runDemo({ keep: options.keep ?? false, random: systemRandom, show }, context());
        return ok ? 0 : 1;
      }),
    );
}
