/**
 * FelixConfiguration. Tortie acts on a handful of these fields (FelixConfigurationSpec names them); the others it
 * knows by name and type, so that a manifest made for Calico is neither refused nor robbed of a setting.
 */
import * as z from 'zod/v3';
import { parseAddressOrCidr } from './cidr.ts';
import {
  type ObjectMaker,
  optionalFlag,
  optionalInteger,
  optionalText,
  optionalTexts,
  type Refuse,
} from './fields.ts';

const TYPES = {
  flag: optionalFlag,
  integer: optionalInteger,
  text: optionalText,
  texts: optionalTexts,
  /** `1000:2000` or a number. */
  ports: z.union([z.string(), z.number()]).optional(),
  opaque: z.unknown().optional(),
} as const;

/** Fields in the order in which Calico 3.31 prints them, several of one type to a line. */
const FIELDS: readonly (readonly [keyof typeof TYPES, string])[] = [
  ['flag', 'useInternalDataplaneDriver'],
  ['text', 'dataplaneDriver dataplaneWatchdogTimeout'],
  ['flag', 'ipv6Support'],
  [
    'text',
    'routeRefreshInterval interfaceRefreshInterval iptablesRefreshInterval iptablesPostWriteCheckInterval',
  ],
  [
    'text',
    'iptablesLockFilePath iptablesLockTimeout iptablesLockProbeInterval featureDetectOverride featureGates',
  ],
  ['text', 'ipsetsRefreshInterval'],
  ['integer', 'maxIpsetSize'],
  ['text', 'iptablesBackend xdpRefreshInterval netlinkTimeout metadataAddr'],
  ['integer', 'metadataPort'],
  ['text', 'openstackRegion interfacePrefix interfaceExclude chainInsertMode defaultEndpointToHostAction'],
  ['text', 'iptablesFilterAllowAction iptablesMangleAllowAction iptablesFilterDenyAction logPrefix'],
  ['text', 'logActionRateLimit'],
  ['integer', 'logActionRateLimitBurst'],
  ['text', 'logFilePath logSeverityFile logSeverityScreen logSeveritySys logDebugFilenameRegex'],
  ['flag', 'ipipEnabled'],
  ['integer', 'ipipMTU'],
  ['flag', 'vxlanEnabled'],
  ['integer', 'vxlanMTU vxlanMTUV6 vxlanPort vxlanVNI'],
  ['flag', 'allowVXLANPacketsFromWorkloads allowIPIPPacketsFromWorkloads'],
  ['text', 'reportingInterval reportingTTL'],
  ['flag', 'endpointReportingEnabled'],
  ['text', 'endpointReportingDelay endpointStatusPathPrefix'],
  ['integer', 'iptablesMarkMask'],
  ['flag', 'disableConntrackInvalidCheck healthEnabled'],
  ['text', 'healthHost'],
  ['integer', 'healthPort'],
  ['opaque', 'healthTimeoutOverrides'],
  ['flag', 'prometheusMetricsEnabled'],
  ['text', 'prometheusMetricsHost'],
  ['integer', 'prometheusMetricsPort'],
  [
    'text',
    'prometheusMetricsCAFile prometheusMetricsCertFile prometheusMetricsKeyFile prometheusMetricsClientAuth',
  ],
  ['flag', 'prometheusGoMetricsEnabled prometheusProcessMetricsEnabled prometheusWireGuardMetricsEnabled'],
  ['opaque', 'failsafeInboundHostPorts failsafeOutboundHostPorts kubeNodePortRanges'],
  ['text', 'policySyncPathPrefix'],
  ['flag', 'usageReportingEnabled'],
  ['text', 'usageReportingInitialDelay usageReportingInterval'],
  ['ports', 'natPortRange'],
  ['text', 'natOutgoingAddress natOutgoingExclusions deviceRouteSourceAddress deviceRouteSourceAddressIPv6'],
  ['integer', 'deviceRouteProtocol'],
  ['flag', 'removeExternalRoutes'],
  ['text', 'programClusterRoutes ipForwarding'],
  ['texts', 'externalNodesList'],
  ['text', 'debugMemoryProfilePath'],
  ['flag', 'debugDisableLogDropping'],
  [
    'text',
    'debugSimulateCalcGraphHangAfter debugSimulateDataplaneHangAfter debugSimulateDataplaneApplyDelay',
  ],
  ['text', 'debugHost'],
  ['integer', 'debugPort'],
  ['text', 'iptablesNATOutgoingInterfaceFilter'],
  ['flag', 'sidecarAccelerationEnabled xdpEnabled genericXDPEnabled'],
  ['text', 'nftablesMode nftablesRefreshInterval nftablesFilterAllowAction nftablesMangleAllowAction'],
  ['text', 'nftablesFilterDenyAction'],
  ['integer', 'nftablesMarkMask'],
  ['flag', 'bpfEnabled bpfDisableUnprivileged'],
  ['text', 'bpfLogLevel bpfConntrackLogLevel'],
  ['opaque', 'bpfLogFilters'],
  ['text', 'bpfCTLBLogFilter bpfDataIfacePattern bpfL3IfacePattern'],
  ['flag', 'bpfConnectTimeLoadBalancingEnabled'],
  ['text', 'bpfConnectTimeLoadBalancing bpfHostNetworkedNATWithoutCTLB bpfExternalServiceMode'],
  ['texts', 'bpfDSROptoutCIDRs'],
  ['integer', 'bpfExtToServiceConnmark'],
  ['flag', 'bpfKubeProxyIptablesCleanupEnabled'],
  ['text', 'bpfKubeProxyMinSyncPeriod'],
  ['integer', 'bpfKubeProxyHealthzPort'],
  ['flag', 'bpfKubeProxyEndpointSlicesEnabled'],
  ['ports', 'bpfPSNATPorts'],
  ['integer', 'bpfMapSizeNATFrontend bpfMapSizeNATBackend bpfMapSizeNATAffinity bpfMapSizeRoute'],
  ['integer', 'bpfMapSizeConntrack bpfMapSizePerCpuConntrack'],
  ['text', 'bpfMapSizeConntrackScaling bpfConntrackCleanupMode'],
  ['opaque', 'bpfConntrackTimeouts'],
  ['integer', 'bpfMapSizeConntrackCleanupQueue bpfMapSizeIPSets bpfMapSizeIfState'],
  ['flag', 'bpfHostConntrackBypass'],
  ['text', 'bpfEnforceRPF'],
  ['flag', 'bpfPolicyDebugEnabled'],
  ['texts', 'bpfForceTrackPacketsFromIfaces'],
  ['text', 'bpfDisableGROForIfaces'],
  ['texts', 'bpfExcludeCIDRsFromNAT'],
  ['text', 'bpfRedirectToPeer bpfAttachType'],
  ['integer', 'bpfExportBufferSizeMB'],
  ['text', 'bpfProfiling bpfJITHardening bpfIstioAmbientMode routeSource'],
  ['opaque', 'routeTableRanges routeTableRange'],
  ['flag', 'routeSyncDisabled wireguardEnabled wireguardEnabledV6 wireguardThreadingEnabled'],
  ['integer', 'wireguardListeningPort wireguardListeningPortV6 wireguardRoutingRulePriority'],
  ['text', 'wireguardInterfaceName wireguardInterfaceNameV6'],
  ['integer', 'wireguardMTU wireguardMTUV6'],
  ['flag', 'wireguardHostEncryptionEnabled'],
  ['text', 'wireguardKeepAlive awsSrcDstCheck serviceLoopPrevention workloadSourceSpoofing mtuIfacePattern'],
  ['text', 'floatingIPs windowsManageFirewallRules'],
  ['integer', 'goGCThreshold goMemoryLimitMB'],
  ['integer', 'goMaxProcs'],
  ['text', 'cgroupV2Path flowLogsCollectorDebugTrace flowLogsFlushInterval flowLogsGoldmaneServer'],
  ['text', 'flowLogsLocalReporter flowLogsPolicyEvaluationMode requireMTUFile'],
];

/** What Calico's client writes where the manifest says nothing. */
const WRITTEN_DEFAULTS: Readonly<Record<string, string>> = {
  bpfLogLevel: '',
  bpfConnectTimeLoadBalancing: 'TCP',
  bpfHostNetworkedNATWithoutCTLB: 'Enabled',
  floatingIPs: 'Disabled',
};

function shape(): Record<string, z.ZodTypeAny> {
  const fields: Record<string, z.ZodTypeAny> = {};
  for (const [type, names] of FIELDS)
    for (const name of names.split(' ')) {
      const byDefault = WRITTEN_DEFAULTS[name];
      fields[name] = byDefault === undefined ? TYPES[type] : z.string().default(byDefault);
    }
  return fields;
}

export function felixConfigurationSpec(object: ObjectMaker) {
  return object(shape());
}

export function checkFelixConfiguration(spec: Readonly<Record<string, unknown>>, refuse: Refuse): void {
  const field = 'FelixConfiguration.Spec';
  if (typeof spec.ipipMTU === 'number' && spec.ipipMTU < 0)
    refuse(['ipipMTU'], {
      field: `${field}.IPIPMTU`,
      value: String(spec.ipipMTU),
      reason: 'expected 0 or more bytes',
    });
  for (const [i, cidr] of (Array.isArray(spec.externalNodesList) ? spec.externalNodesList : []).entries())
    if (!parseAddressOrCidr(String(cidr)))
      refuse(['externalNodesList', String(i)], {
        field: `${field}.ExternalNodesCIDRList`,
        value: String(cidr),
        reason: 'expected an address or CIDR',
      });
}
