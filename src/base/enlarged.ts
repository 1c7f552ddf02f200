/** `to`, longer and empty, with what is in `from`: how tables in typed arrays grow. */
export function enlarged<T extends { set(from: T): void }>(from: T, to: T): T {
  to.set(from);
  return to;
}
