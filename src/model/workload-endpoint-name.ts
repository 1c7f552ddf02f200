/** The name of a workload endpoint is made of what identifies it. */
export interface WorkloadIdentity {
  readonly node?: string | undefined;
  readonly orchestrator?: string | undefined;
  readonly workload?: string | undefined;
  readonly pod?: string | undefined;
  readonly containerID?: string | undefined;
  readonly endpoint?: string | undefined;
}

/** What names the workload depends on who runs it; `k8s` knows pods, `cni` containers. */
const IDENTIFIER_OF: Readonly<Record<string, 'pod' | 'containerID'>> = { k8s: 'pod', cni: 'containerID' };

/** `node1-cni-w2-eth0`: identifiers joined by `-`, dashes inside of them doubled. */
export function workloadEndpointName(spec: WorkloadIdentity): string {
  const workload = spec[IDENTIFIER_OF[spec.orchestrator ?? ''] ?? 'workload'] ?? '';
  return [spec.node ?? '', spec.orchestrator ?? '', workload, spec.endpoint ?? '']
    .map((segment) => segment.replaceAll('-', '--'))
    .join('-');
}
