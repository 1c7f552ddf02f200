/** The etcd members of a lab with `datastore: etcd`: real ones, each in its namespace, outliving the command. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { type Clock, poll } from '../base/clock.ts';
import { FailedError } from '../base/errors.ts';
import type { Prefix } from '../ip/prefix.ts';
import { callersEnvironment, logTail } from './agents.ts';
import { memberAddress } from './management.ts';
import { type LabPaths, namespaceName } from './names.ts';
import { endProcesses, formatProcessId, isIn, runningProcess, startDetached } from './processes.ts';
import { runProgram } from './program.ts';
import { MEMBERS } from './topology.ts';

const CLIENT_PORT = 2379;
const PEER_PORT = 2380;

/** A cluster elects its leader within two seconds; on a loaded machine, in tens. */
const READY_DEADLINE_MS = 60_000;
const HEALTH_DEADLINE_MS = 2_000;

/** `198.18.4.11:2379` of each member, for nodes and for this machine. */
export function etcdEndpoints(subnet: Prefix): string[] {
  return MEMBERS.map((member) => `${memberAddress(subnet, member)}:${CLIENT_PORT}`);
}

export interface MembersSetting {
  readonly lab: string;
  readonly paths: LabPaths;
  readonly subnet: Prefix;
  readonly env: NodeJS.ProcessEnv;
}

/** Starts the members that do not run. @returns their names */
export async function startMembers(setting: MembersSetting, clock: Clock): Promise<string[]> {
  const { lab, paths, env } = setting;
  const running = MEMBERS.flatMap((member) => {
    const id = runningProcess(paths.memberPid(member));
    return id ? [{ member, id, inPlace: isIn(id, namespaceName(lab, member)) }] : [];
  });
  await endProcesses(
    running.flatMap(({ id, inPlace }) => (inPlace ? [] : [id])),
    clock,
  );
  const dead = MEMBERS.filter((name) => !running.some(({ member, inPlace }) => inPlace && member === name));
  if (dead.length) await runProgram('etcd', ['--version']); // names the package where it is missing
  await Promise.all(
    dead.map(async (member) => {
      mkdirSync(paths.memberData(member), { recursive: true, mode: 0o700 });
      const command = ['netns', 'exec', namespaceName(lab, member), 'etcd', ...memberFlags(member, setting)];
      const id = await startDetached('ip', command, {
        logFile: paths.memberLog(member),
        env: callersEnvironment(env), // etcd itself obeys ETCD_*
      });
      writeFileSync(paths.memberPid(member), formatProcessId(id));
    }),
  );
  return dead;
}

function memberFlags(member: string, { lab, paths, subnet }: MembersSetting): string[] {
  const url = (name: string, port: number) => `http://${memberAddress(subnet, name)}:${port}`;
  return [
    ...['--name', member, '--data-dir', paths.memberData(member), '--log-level', 'warn'],
    ...[
      '--listen-client-urls',
      url(member, CLIENT_PORT),
      '--advertise-client-urls',
      url(member, CLIENT_PORT),
    ],
    ...[
      '--listen-peer-urls',
      url(member, PEER_PORT),
      '--initial-advertise-peer-urls',
      url(member, PEER_PORT),
    ],
    ...['--initial-cluster', MEMBERS.map((name) => `${name}=${url(name, PEER_PORT)}`).join(',')],
    ...['--initial-cluster-token', lab],
    // A lab outlives no crash of the machine; a member that is killed loses nothing.
    '--unsafe-no-fsync',
  ];
}

/** Waits until every member serves; the first that dies ends the wait with the end of its log. */
export async function waitForMembers({ paths, subnet }: MembersSetting, clock: Clock): Promise<void> {
  await Promise.all(
    MEMBERS.map(async (member) => {
      const ready = await poll(clock, READY_DEADLINE_MS, 50, async () => {
        if (await isHealthy(memberAddress(subnet, member))) return true;
        if (!runningProcess(paths.memberPid(member)))
          throw memberFailed(paths, member, 'ended before it was ready');
        return undefined;
      });
      if (!ready) throw memberFailed(paths, member, `was not ready within ${READY_DEADLINE_MS / 1000} s`);
    }),
  );
}

/** Part of a majority, and able to commit. */
function isHealthy(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get(
      { host: address, port: CLIENT_PORT, path: '/health', timeout: HEALTH_DEADLINE_MS },
      (response) => {
        response.resume();
        resolve(response.statusCode === 200);
      },
    );
    request.on('timeout', () => request.destroy());
    request.on('error', () => resolve(false));
  });
}

function memberFailed(paths: LabPaths, member: string, what: string): FailedError {
  return new FailedError(
    'ERR_LAB_ETCD',
    `the etcd member ${member} ${what}; the end of its log:\n  ${logTail(paths.memberLog(member))}`,
    { hint: 'tortie lab up tries again, tortie lab down removes the lab' },
  );
}
