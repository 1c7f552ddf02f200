/** The configuration file of calicoctl (`-c`): kind CalicoAPIConfig of v3, calicoApiConfig of v1. */
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { z } from 'zod';
import { InvalidError } from '../base/errors.ts';
import type { EtcdSettings } from './connection.ts';

const spec = z.strictObject({
  datastoreType: z.enum(['etcdv3', 'etcdv2']).optional(),
  etcdEndpoints: z.string().optional(),
  etcdUsername: z.string().optional(),
  etcdPassword: z.string().optional(),
  etcdCACertFile: z.string().optional(),
  etcdCertFile: z.string().optional(),
  etcdKeyFile: z.string().optional(),
  etcdCACert: z.string().optional(),
  etcdCert: z.string().optional(),
  etcdKey: z.string().optional(),
});

const schema = z.discriminatedUnion('kind', [
  z.strictObject({
    apiVersion: z.literal('projectcalico.org/v3'),
    kind: z.literal('CalicoAPIConfig'),
    metadata: z.unknown().optional(),
    spec: spec.default({}),
  }),
  z.strictObject({
    apiVersion: z.literal('v1'),
    kind: z.literal('calicoApiConfig'),
    metadata: z.unknown().optional(),
    spec: spec.default({}),
  }),
]);

/** An empty string in the file means what a missing field means. */
function given(value: string | undefined): string | undefined {
  return value || undefined;
}

/** @throws InvalidError with every problem of the file */
export async function readConnectionFile(path: string): Promise<EtcdSettings> {
  const result = schema.safeParse(readDocument(path));
  if (!result.success) {
    const problems = result.error.issues.map(
      (issue) => `${issue.path.join('.') || 'document'}: ${issue.message}`,
    );
    throw new InvalidError('ERR_STORE_CONFIG', `${path} is no CalicoAPIConfig: ${problems.join('; ')}`, {
      hint: 'Expected apiVersion: projectcalico.org/v3, kind: CalicoAPIConfig and spec.datastoreType: etcdv3.',
    });
  }
  const { spec: s } = result.data;
  return {
    endpoints: given(s.etcdEndpoints),
    username: given(s.etcdUsername),
    password: given(s.etcdPassword),
    caFile: given(s.etcdCACertFile),
    certificateFile: given(s.etcdCertFile),
    keyFile: given(s.etcdKeyFile),
    ca: given(s.etcdCACert),
    certificate: given(s.etcdCert),
    key: given(s.etcdKey),
  };
}

function readDocument(path: string): unknown {
  try {
    return parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new InvalidError(
      'ERR_STORE_CONFIG',
      `cannot read the configuration ${path}: ${(cause as Error).message}`,
      {
        cause,
      },
    );
  }
}
