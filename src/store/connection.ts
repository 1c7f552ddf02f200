/**
 * Which datastore is meant: `--datastore URL`, `-c FILE`, TORTIE_DATASTORE, the environment that calicoctl
 * reads, in that order, else the file datastore's own place.
 */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { InvalidError, UsageError } from '../base/errors.ts';

export interface ConnectionSource {
  /** `--datastore` */
  readonly datastore?: string | undefined;
  /** `-c`, `--config` */
  readonly config?: string | undefined;
  readonly env: NodeJS.ProcessEnv;
}

export interface FileConnection {
  readonly type: 'file';
  readonly directory: string;
}

export interface EtcdConnection {
  readonly type: 'etcd';
  /** `host:port`, without scheme. */
  readonly endpoints: readonly string[];
  readonly tls: boolean;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  /** PEM */
  readonly ca?: string | undefined;
  readonly certificate?: string | undefined;
  readonly key?: string | undefined;
}

export type Connection = FileConnection | EtcdConnection;

const ETCD_PORT = 2379;

/** How etcd is spoken to, apart from where: what environment and configuration file say about it. */
export interface EtcdSettings {
  readonly endpoints?: string | undefined;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly caFile?: string | undefined;
  readonly certificateFile?: string | undefined;
  readonly keyFile?: string | undefined;
  /** PEM given in place of a file. */
  readonly ca?: string | undefined;
  readonly certificate?: string | undefined;
  readonly key?: string | undefined;
}

/** @throws UsageError, InvalidError */
export async function resolveConnection(source: ConnectionSource): Promise<Connection> {
  const { datastore, config, env } = source;
  if (datastore !== undefined) return fromUrl(datastore, '--datastore', env);
  if (config !== undefined) {
    const { readConnectionFile } = await import('./connection-file.ts');
    return etcdConnection(await readConnectionFile(config), config);
  }
  if (env.TORTIE_DATASTORE) return fromUrl(env.TORTIE_DATASTORE, 'TORTIE_DATASTORE', env);
  return fromEnvironment(env) ?? { type: 'file', directory: defaultDirectory(env) };
}

/** `/var/lib/tortie` for root, else the user's own state directory. */
export function defaultDirectory(env: NodeJS.ProcessEnv): string {
  if (process.getuid?.() === 0) return '/var/lib/tortie';
  return join(env.XDG_STATE_HOME || join(env.HOME || homedir(), '.local/state'), 'tortie');
}

function fromUrl(url: string, where: string, env: NodeJS.ProcessEnv): Connection {
  const scheme = /^([a-z]+):\/\//.exec(url)?.[1];
  switch (scheme) {
    case 'file':
      return { type: 'file', directory: directoryOf(url, where) };
    case 'etcd':
    case 'etcds':
    case 'http':
    case 'https':
      return etcdConnection({ ...environmentSettings(env), endpoints: url }, where);
    default:
      throw new UsageError(`${where} ${JSON.stringify(url)} names no datastore`, {
        hint: 'Expected file:///directory, etcd://host:2379[,host:2379…], etcds://… or https://… (TLS).',
      });
  }
}

function directoryOf(url: string, where: string): string {
  try {
    const parsed = new URL(url);
    if (parsed.search === '' && parsed.hash === '') {
      const path = normalize(fileURLToPath(parsed));
      return path.length > 1 ? path.replace(/\/$/, '') : path;
    }
  } catch {
    // Reported below, with what was expected.
  }
  throw new UsageError(`${where} ${JSON.stringify(url)} is not the URL of a directory`, {
    hint: 'Expected file:///directory: three slashes, an absolute path, ? and # written as %3F and %23.',
  });
}

/** calicoctl reads each name with `CALICO_` before it first. */
function variable(env: NodeJS.ProcessEnv, name: string): string | undefined {
  return env[`CALICO_${name}`] || env[name] || undefined;
}

function environmentSettings(env: NodeJS.ProcessEnv): EtcdSettings {
  return {
    endpoints: variable(env, 'ETCD_ENDPOINTS'),
    username: variable(env, 'ETCD_USERNAME'),
    password: variable(env, 'ETCD_PASSWORD'),
    caFile: variable(env, 'ETCD_CA_CERT_FILE'),
    certificateFile: variable(env, 'ETCD_CERT_FILE'),
    keyFile: variable(env, 'ETCD_KEY_FILE'),
  };
}

function fromEnvironment(env: NodeJS.ProcessEnv): Connection | undefined {
  const type = variable(env, 'DATASTORE_TYPE');
  const settings = environmentSettings(env);
  if (type === undefined && settings.endpoints === undefined) return undefined;
  if (type !== undefined && type !== 'etcdv3')
    throw new UsageError(`DATASTORE_TYPE is ${JSON.stringify(type)}: expected "etcdv3"`, {
      hint: 'Tortie keeps its resources in etcd or in files; unset DATASTORE_TYPE for files.',
    });
  return etcdConnection(settings, 'ETCD_ENDPOINTS');
}

/** @throws InvalidError where the parts do not fit together */
export function etcdConnection(settings: EtcdSettings, where: string): EtcdConnection {
  const { credentials, schemes, hosts } = parseEndpoints(
    settings.endpoints ?? `http://127.0.0.1:${ETCD_PORT}`,
    where,
  );
  const tls = schemes.has('https') || schemes.has('etcds');
  if (tls && schemes.size > 1)
    throw new InvalidError('ERR_STORE_CONFIG', `${where}: endpoints with and without TLS cannot be mixed`);
  const username = credentials?.username ?? settings.username;
  const password = credentials?.password ?? settings.password;
  if ((username === undefined) !== (password === undefined))
    throw new InvalidError('ERR_STORE_CONFIG', `${where}: etcd wants user name and password, got only one`);
  const plain = { type: 'etcd', endpoints: hosts, tls, username, password } as const;
  if (!tls) return plain;
  const certificate = settings.certificate ?? readPem(settings.certificateFile, 'certificate', where);
  const key = settings.key ?? readPem(settings.keyFile, 'key', where);
  if ((certificate === undefined) !== (key === undefined))
    throw new InvalidError(
      'ERR_STORE_CONFIG',
      `${where}: a client certificate and its key belong together, got only one`,
    );
  return { ...plain, ca: settings.ca ?? readPem(settings.caFile, 'CA certificate', where), certificate, key };
}

interface Endpoints {
  readonly schemes: ReadonlySet<string>;
  readonly hosts: readonly string[];
  readonly credentials?: { readonly username: string; readonly password: string };
}

/** `etcd://user:password@a:2379,b:2379` (one scheme for all) or `http://a:2379,http://b:2379` (one each). */
function parseEndpoints(text: string, where: string): Endpoints {
  const schemes = new Set<string>();
  const hosts: string[] = [];
  let credentials: Endpoints['credentials'];
  for (const part of text.split(',').map((p) => p.trim())) {
    const match = /^(?:(etcds?|https?):\/\/)?(?:([^:@/]+):([^@/]*)@)?([^/@\s]+)\/?$/.exec(part);
    const host = match?.[4] && hostAndPort(match[4]);
    if (!match || !host)
      throw new InvalidError(
        'ERR_STORE_CONFIG',
        `${where}: not an etcd endpoint: ${JSON.stringify(withoutPassword(part))}`,
        {
          hint: 'Expected host:port, a name or an address, as in etcd://10.0.0.1:2379,10.0.0.2:2379.',
        },
      );
    if (match[1]) schemes.add(match[1]);
    if (match[2] !== undefined)
      credentials = { username: decodeURIComponent(match[2]), password: decodeURIComponent(match[3] ?? '') };
    hosts.push(host);
  }
  return { schemes, hosts, ...(credentials && { credentials }) };
}

function hostAndPort(text: string): string | undefined {
  const match = /^(\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::(\d{1,5}))?$/.exec(text);
  if (!match) return undefined;
  const port = match[2] === undefined ? ETCD_PORT : Number(match[2]);
  return port > 0 && port < 65_536 ? `${match[1]}:${port}` : undefined;
}

function withoutPassword(endpoint: string): string {
  return endpoint.replace(/:[^:@/]*@/, ':…@');
}

function readPem(path: string | undefined, what: string, where: string): string | undefined {
  if (path === undefined) return undefined;
  try {
    const text = readFileSync(path, 'utf8');
    if (text.includes('-----BEGIN ')) return text;
  } catch (cause) {
    throw new InvalidError(
      'ERR_STORE_CONFIG',
      `${where}: cannot read etcd's ${what} file ${path}: ${(cause as Error).message}`,
      { cause },
    );
  }
  throw new InvalidError('ERR_STORE_CONFIG', `${where}: etcd's ${what} file ${path} is not PEM`);
}
