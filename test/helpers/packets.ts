/** Whole packets for tests, written field by field and slowly: independent of the code under test. */

export interface Ipv4Fields {
  readonly tos?: number;
  readonly id?: number;
  /** The word of flags and fragment offset; DF unless given. */
  readonly fragment?: number;
  readonly ttl?: number;
  readonly source?: number;
  readonly destination?: number;
  readonly options?: readonly number[];
}

export interface TcpFields extends Ipv4Fields {
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly sequence?: number;
  readonly acknowledgement?: number;
  readonly flags?: number;
  readonly window?: number;
  readonly urgent?: number;
  /** A multiple of four bytes. */
  readonly tcpOptions?: readonly number[];
}

/** The one's complement sum as RFC 1071 describes it, word by word with the carry added at once. */
export function slowSum(bytes: readonly number[]): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += (bytes[i] ?? 0) * 256 + (bytes[i + 1] ?? 0);
    if (sum > 0xffff) sum = (sum % 0x10000) + 1;
  }
  return sum;
}

function u16(value: number): number[] {
  return [Math.floor(value / 256) % 256, value % 256];
}

function u32(value: number): number[] {
  return [...u16(Math.floor(value / 65_536)), ...u16(value % 65_536)];
}

export const W1 = 0xc0a82a41; // 192.168.42.65
export const W3 = 0xc0a84d82; // 192.168.77.130

export function ipv4Packet(
  protocol: number,
  payload: readonly number[],
  fields: Ipv4Fields = {},
): Uint8Array {
  const options = fields.options ?? [];
  const headerBytes = 20 + options.length;
  const header = [
    0x40 + headerBytes / 4,
    fields.tos ?? 0,
    ...u16(headerBytes + payload.length),
    ...u16(fields.id ?? 0x1234),
    ...u16(fields.fragment ?? 0x4000),
    fields.ttl ?? 63,
    protocol,
    0,
    0,
    ...u32(fields.source ?? W1),
    ...u32(fields.destination ?? W3),
    ...options,
  ];
  const check = 0xffff - slowSum(header);
  return Uint8Array.from([...header.slice(0, 10), ...u16(check), ...header.slice(12), ...payload]);
}

function pseudoHeader(protocol: number, length: number, fields: Ipv4Fields): number[] {
  return [...u32(fields.source ?? W1), ...u32(fields.destination ?? W3), 0, protocol, ...u16(length)];
}

/** `complete` false leaves the sum of the pseudo-header in the checksum, as an offload expects it. */
export function tcpPacket(payload: readonly number[], fields: TcpFields = {}, complete = true): Uint8Array {
  const options = fields.tcpOptions ?? [];
  const head = [
    ...u16(fields.sourcePort ?? 50_000),
    ...u16(fields.destinationPort ?? 443),
    ...u32(fields.sequence ?? 1),
    ...u32(fields.acknowledgement ?? 77),
    (5 + options.length / 4) * 16,
    fields.flags ?? 0x10,
    ...u16(fields.window ?? 512),
  ];
  const tail = [...u16(fields.urgent ?? 0), ...options, ...payload];
  const pseudo = pseudoHeader(6, head.length + 2 + tail.length, fields);
  const check = complete ? 0xffff - slowSum([...pseudo, ...head, 0, 0, ...tail]) : slowSum(pseudo);
  return ipv4Packet(6, [...head, ...u16(check), ...tail], fields);
}

export interface UdpFields extends Ipv4Fields {
  readonly sourcePort?: number;
  readonly destinationPort?: number;
}

export function udpPacket(payload: readonly number[], fields: UdpFields = {}, complete = true): Uint8Array {
  const head = [
    ...u16(fields.sourcePort ?? 50_000),
    ...u16(fields.destinationPort ?? 53),
    ...u16(8 + payload.length),
  ];
  const pseudo = pseudoHeader(17, 8 + payload.length, fields);
  const full = 0xffff - slowSum([...pseudo, ...head, 0, 0, ...payload]);
  const check = complete ? full || 0xffff : slowSum(pseudo);
  return ipv4Packet(17, [...head, ...u16(check), ...payload], fields);
}

/** An ICMP message with its checksum; `rest` is the second word. */
export function icmpPacket(
  type: number,
  code: number,
  rest: number,
  data: readonly number[],
  fields: Ipv4Fields = {},
): Uint8Array {
  const tail = [...u32(rest), ...data];
  const check = 0xffff - slowSum([type, code, 0, 0, ...tail]);
  return ipv4Packet(1, [type, code, ...u16(check), ...tail], fields);
}
