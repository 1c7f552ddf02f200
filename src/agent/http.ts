/** The two small HTTP servers of an agent: status on a unix socket that only its user may open, metrics on request. */
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type RequestListener, request, type Server } from 'node:http';
import { UnavailableError } from '../base/errors.ts';

const REQUEST_TIMEOUT_MS = 5_000;

export interface HttpServer {
  /** For TCP, the port that was given. */
  readonly port: number | null;
  close(): Promise<void>;
}

/** Serves `GET path` -> text. The caller holds the node's lock, so a socket that is there is a dead agent's. */
export async function serveUnix(path: string, answers: Answers): Promise<HttpServer> {
  rmSync(path, { force: true });
  const server = createServer(listener(answers));
  // Created without any permission for others: between bind and chmod nobody may slip in.
  const umask = process.umask(0o177);
  try {
    await listen(server, { path });
  } finally {
    process.umask(umask);
  }
  chmodSync(path, 0o600);
  return { port: null, close: () => close(server) };
}

export async function serveTcp(host: string, port: number, answers: Answers): Promise<HttpServer> {
  const server = createServer(listener(answers));
  await listen(server, { host, port });
  const address = server.address();
  return {
    port: typeof address === 'object' && address ? address.port : null,
    close: () => close(server),
  };
}

export interface Answer {
  readonly type: string;
  readonly body: string;
}

/** Path -> what to answer. */
export type Answers = Readonly<Record<string, () => Promise<Answer> | Answer>>;

function listener(answers: Answers): RequestListener {
  return (incoming, response) => {
    void (async () => {
      const answer =
        incoming.method === 'GET' ? answers[(incoming.url ?? '').split('?')[0] ?? ''] : undefined;
      if (!answer) {
        response.writeHead(404, { 'content-type': 'text/plain' });
        response.end(`expected GET of one of: ${Object.keys(answers).join(' ')}\n`);
        return;
      }
      const { type, body } = await answer();
      response.writeHead(200, { 'content-type': type });
      response.end(body);
    })().catch((error: Error) => {
      response.writeHead(500, { 'content-type': 'text/plain' });
      response.end(`${error.message}\n`);
    });
  };
}

function listen(server: Server, where: { path: string } | { host: string; port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        new UnavailableError(
          'ERR_LISTEN',
          `listening on ${'path' in where ? where.path : `${where.host}:${where.port}`} failed: ${error.message}`,
        ),
      ),
    );
    server.listen(where, () => resolve());
  });
}

function close(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((resolve) => {
    server.close(() => resolve());
  });
}

/** Asks an agent over its socket; undefined where none answers. */
export function askUnix(socket: string, path: string): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    // A connection of its own: one that is kept may be closed by the other end just when it is used again.
    const options = { socketPath: socket, path, timeout: REQUEST_TIMEOUT_MS, agent: false };
    const asked = request(options, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text) => {
        body += text;
      });
      response.on('end', () => resolve(response.statusCode === 200 ? body : undefined));
    });
    asked.on('timeout', () => asked.destroy(new Error('no answer in time')));
    asked.on('error', (error: NodeJS.ErrnoException) =>
      ['ENOENT', 'ECONNREFUSED'].includes(error.code ?? '') ? resolve(undefined) : reject(error),
    );
    asked.end();
  });
}
