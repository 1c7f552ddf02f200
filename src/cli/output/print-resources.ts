/** What `get` and `convert` print: one result is an object or a list, in either dialect, as YAML, JSON, names or a table. */
import { goJson, type Json, printable } from '../../model/encode.ts';
import { API_VERSION, type Kind, type Resource } from '../../model/resources.ts';
import { toV1 } from '../../model/v1.ts';
import { type ColumnContext, type Dialect, tableShape } from './columns.ts';
import type { OutputFormat } from './output-format.ts';
import { table } from './table.ts';
import { yaml } from './yaml.ts';

/** One thing that was asked for: a resource by its name, or all of a kind. */
export type Result =
  | { readonly type: 'one'; readonly kind: Kind; readonly resource: Resource }
  | {
      readonly type: 'list';
      readonly kind: Kind;
      readonly resources: readonly Resource[];
      readonly revision: string;
    };

export interface Presentation {
  readonly format: OutputFormat;
  readonly dialect: Dialect;
  /** Tables say the namespace where the user spoke of namespaces. */
  readonly withNamespace: boolean;
}

export function resourcesOf(result: Result): readonly Resource[] {
  return result.type === 'one' ? [result.resource] : result.resources;
}

export function presented(
  results: readonly Result[],
  { format, dialect, withNamespace }: Presentation,
  context: ColumnContext,
): string {
  switch (format.type) {
    case 'yaml':
      return yaml(documentOf(results, dialect));
    case 'json':
      return `${goJson(documentOf(results, dialect), 2)}\n`;
    case 'name':
      return results
        .flatMap(resourcesOf)
        .map(({ kind, metadata }) => `${kind.toLowerCase()}/${metadata.name}\n`)
        .join('');
    case 'table':
      return results
        .map((result) => {
          const { headings, row } = tableShape(result.kind, dialect, format.shown, withNamespace);
          return table(
            headings,
            resourcesOf(result).map((resource) => row(resource, context)),
          );
        })
        .join('');
  }
}

/** v1 always printed a list; v3 prints one result by itself. */
function documentOf(results: readonly Result[], dialect: Dialect): Json {
  if (dialect === 'v1') return results.flatMap(resourcesOf).map((resource) => inDialect(resource, dialect));
  const documents = results.map(
    (result): Json =>
      result.type === 'one'
        ? printable(result.resource)
        : {
            kind: `${result.kind}List`,
            apiVersion: API_VERSION,
            metadata: { resourceVersion: result.revision },
            items: result.resources.map(printable),
          },
  );
  return documents.length === 1 ? documents[0]! : documents;
}

/** Kinds that v1 does not have are printed as v3. */
function inDialect(resource: Resource, dialect: Dialect): Json {
  return ((dialect === 'v1' ? toV1(resource) : undefined) as Json | undefined) ?? printable(resource);
}

/** What `--export` and `convert` print: nothing that belongs to one cluster; Calico prints the null, too. */
export function withoutClusterFields(resource: Resource): Resource {
  const { uid: _uid, resourceVersion: _version, ...metadata } = resource.metadata;
  return { ...resource, metadata: { ...metadata, creationTimestamp: null as unknown as string } };
}
