/** `lab list`: the labs of this machine, and how many of their agents run. */
import { runningAgent } from './agents.ts';
import { fabricName } from './fabric.ts';
import { labPaths } from './names.ts';
import { labNames, readRecord } from './record.ts';
import { renderTable } from './verify-table.ts';

export interface LabSummary {
  readonly name: string;
  readonly fabric: string;
  readonly zones: number;
  readonly nodes: number;
  readonly agentsRunning: number;
  readonly workloads: number;
}

export function describeLabs(labsDirectory: string): LabSummary[] {
  return labNames(labsDirectory).flatMap((name) => {
    const known = readRecord(labsDirectory, name);
    if (!known) return [];
    const { zones, nodes, workloads } = known.topology;
    const paths = labPaths(labsDirectory, name);
    return [
      {
        name,
        fabric: fabricName(known.topology),
        zones: zones.length,
        nodes: nodes.length,
        agentsRunning: nodes.filter((node) => runningAgent(paths, node.name)).length,
        workloads: workloads.length,
      },
    ];
  });
}

export function renderLabs(labs: readonly LabSummary[]): string {
  return renderTable([
    ['NAME', 'FABRIC', 'ZONES', 'NODES', 'AGENTS', 'WORKLOADS'],
    ...labs.map((lab) => [
      lab.name,
      lab.fabric,
      `${lab.zones}`,
      `${lab.nodes}`,
      `${lab.agentsRunning}/${lab.nodes}`,
      `${lab.workloads}`,
    ]),
  ]);
}
