/**
 * The userspace path's system calls from C with nothing around them (examples/bench-peers/c/tunnel.c), where clang is
 * there: what they allow, and so how much of a figure is ours.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { installedFile } from '../base/installation.ts';
import { OVERHEAD_BYTES, type Transport } from '../ip/mtu.ts';
import { answered, type Contender, configureDevice, DEVICE } from './contender.ts';
import { FIGURES } from './measure.ts';
import { command, HOSTS, OVERLAY, other, type TwoHosts, UNDERLAY } from './two-hosts.ts';

const SOURCE = installedFile('examples/bench-peers/c/tunnel.c').pathname;
const COMPILE_MS = 60_000;
/** clang has two names for it. */
const FLAGS = ['-O3', process.arch === 'arm64' ? '-mcpu=native' : '-march=native', '-pthread'];

export class CTwin implements Contender {
  readonly name: string;
  readonly kind = 'twin';
  readonly settings: string;
  readonly figures = FIGURES;
  readonly #clang: string;
  readonly #transport: Transport;
  #directory = '';

  constructor(name: string, transport: Transport, clang: string) {
    this.name = name;
    this.#transport = transport;
    this.#clang = clang;
    this.settings = `\`examples/bench-peers/c/tunnel.c\`, by \`${clang} ${FLAGS.join(' ')}\``;
  }

  async start(hosts: TwoHosts): Promise<string> {
    const program = await this.#compiled();
    const running = HOSTS.map((host) =>
      hosts.start(host, [
        program,
        ...[this.#transport, DEVICE, 'eth0', UNDERLAY[host], UNDERLAY[other(host)]],
      ]),
    );
    await configureDevice(hosts, () => DEVICE, hosts.mtu - OVERHEAD_BYTES[this.#transport], running);
    return answered(hosts, OVERLAY.b, running);
  }

  remove(): void {
    if (this.#directory !== '') rmSync(this.#directory, { recursive: true, force: true });
  }

  async #compiled(): Promise<string> {
    const isCompiled = this.#directory !== '';
    this.#directory ||= mkdtempSync(join(tmpdir(), 'tortie-bench-'));
    const program = join(this.#directory, 'tunnel');
    if (!isCompiled) await command([this.#clang, ...FLAGS, SOURCE, '-o', program], COMPILE_MS);
    return program;
  }
}
