/** Both ends of the status that `node run` and `tunnel run` give: served on a unix socket, as metrics too, and asked for. */
import { FailedError, UnavailableError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { askUnix, serveTcp, serveUnix } from './http.ts';
import type { Status } from './status.ts';

const STATUS_PATH = '/v1/status';

export interface StatusService {
  readonly socket: string;
  readonly metrics: { readonly host: string; readonly port: number } | null;
  readonly logger: Logger;
  /** Asked anew for each answer. */
  status(): Promise<Status> | Status;
}

/** Serves until the function that it gives is called. */
export async function serveStatus(service: StatusService): Promise<() => Promise<void>> {
  const { metrics, logger } = service;
  const servers = [
    await serveUnix(service.socket, {
      [STATUS_PATH]: async () => ({
        type: 'application/json',
        body: `${JSON.stringify(await service.status())}\n`,
      }),
    }),
  ];
  if (metrics) {
    // A third of what there is to load, and only some ask for it.
    const { createMetrics } = await import('./metrics.ts');
    const exporter = createMetrics(() => service.status());
    const server = await serveTcp(metrics.host, metrics.port, {
      '/metrics': async () => ({ type: exporter.type, body: await exporter.text() }),
    });
    servers.push(server);
    logger.info({ host: metrics.host, port: server.port }, 'metrics are served');
  }
  return async () => {
    await Promise.all(servers.map((server) => server.close()));
  };
}

export interface StatusQuestion {
  readonly socket: string;
  /** Of the status that the asker understands. */
  readonly version: number;
  /** Where nobody answers: what to say, and the command that starts what would. */
  readonly silence: { readonly code: string; readonly text: string; readonly hint: string };
}

/** @throws UnavailableError where nobody answers, FailedError where the answer is of another version */
export async function askStatus<T extends Status>(question: StatusQuestion): Promise<T> {
  const { socket, version, silence } = question;
  const body = await askUnix(socket, STATUS_PATH);
  if (body === undefined)
    throw new UnavailableError(silence.code, `${silence.text}: no answer on ${socket}`, {
      hint: silence.hint,
    });
  const status = JSON.parse(body) as T;
  if (status.version !== version)
    throw new FailedError(
      'ERR_STATUS_VERSION',
      `it speaks version ${status.version} of the status, this command version ${version}`,
      { hint: 'use the tortie that it was started with' },
    );
  return status;
}
