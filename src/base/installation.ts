/**
 * Where this package lies. A built module may stand in a bundle with others (rolldown.config.ts), so that its own place
 * says nothing of itself; but this one is two levels below the package's root wherever it stands: in src/base,
 * dist/base, dist/bundle.
 */
const ROOT = new URL('../../', import.meta.url);

/** @param path relative to the package's root: `examples/two-az.yaml` */
export function installedFile(path: string): URL {
  return new URL(path, ROOT);
}
