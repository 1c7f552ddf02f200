/**
 * Calico's selector language over labels: `all()`, `has(zone)`, `zone == 'a'`, `zone in {'a', 'b'}`,
 * `name starts with 'web'`, joined by `!`, `&&`, `||` and parentheses. Empty text selects everything.
 * What is said of a label that is absent is false, but for `!=` and `not in`.
 */

export type Labels = Readonly<Record<string, string>>;
export type Selector = (labels: Labels) => boolean;
export type ParsedSelector =
  | { readonly ok: true; readonly selector: Selector }
  | { readonly ok: false; readonly problem: string };

type TokenType = 'label' | 'string' | 'symbol' | 'end';

interface Token {
  readonly type: TokenType;
  readonly text: string;
  /** Where it starts, for messages. */
  readonly offset: number;
}

const LEXEMES = /\s*(?:(&&|\|\||==|!=|[!(){},])|'([^']*)'|"([^"]*)"|([a-zA-Z0-9_./-]+))|\s*(\S)/g;

/** Deeper nesting is refused: it would exhaust the stack, and nobody writes it. */
const MAX_DEPTH = 100;

const OPERATORS: Readonly<Record<string, (label: string, operand: string) => boolean>> = {
  contains: (label, operand) => label.includes(operand),
  starts: (label, operand) => label.startsWith(operand),
  ends: (label, operand) => label.endsWith(operand),
};

function tokensOf(text: string): Token[] {
  const tokens: Token[] = [];
  for (const match of text.matchAll(LEXEMES)) {
    const [whole, symbol, single, double, label, wrong] = match;
    const offset = match.index + whole.length - whole.trimStart().length;
    if (wrong !== undefined) throw new SyntaxError(`unexpected ${wrong} at character ${offset + 1}`);
    if (symbol !== undefined) tokens.push({ type: 'symbol', text: symbol, offset });
    else if (label !== undefined) tokens.push({ type: 'label', text: label, offset });
    else tokens.push({ type: 'string', text: single ?? double ?? '', offset });
  }
  return [...tokens, { type: 'end', text: 'the end', offset: text.length }];
}

/** Recursive descent; `||` binds weakest, `!` strongest. */
class Parser {
  readonly #tokens: readonly Token[];
  #next = 0;
  #depth = 0;

  constructor(text: string) {
    this.#tokens = tokensOf(text);
  }

  parse(): Selector {
    const selector = this.#either();
    if (this.#peek().type !== 'end') throw this.#unexpected('&&, || or the end');
    return selector;
  }

  #peek(): Token {
    return this.#tokens[this.#next] as Token;
  }

  #unexpected(expected: string): SyntaxError {
    const { text, offset } = this.#peek();
    return new SyntaxError(`expected ${expected} at character ${offset + 1}, got ${text}`);
  }

  #accept(type: TokenType, text: string): boolean {
    const token = this.#peek();
    if (token.type !== type || token.text !== text) return false;
    this.#next++;
    return true;
  }

  #expect(type: TokenType, what: string, text?: string): string {
    const token = this.#peek();
    if (token.type !== type || (text !== undefined && token.text !== text)) throw this.#unexpected(what);
    this.#next++;
    return token.text;
  }

  #either(): Selector {
    let left = this.#both();
    while (this.#accept('symbol', '||')) {
      const [a, b] = [left, this.#both()];
      left = (labels) => a(labels) || b(labels);
    }
    return left;
  }

  #both(): Selector {
    let left = this.#single();
    while (this.#accept('symbol', '&&')) {
      const [a, b] = [left, this.#single()];
      left = (labels) => a(labels) && b(labels);
    }
    return left;
  }

  #single(): Selector {
    if (++this.#depth > MAX_DEPTH) throw new SyntaxError(`nested deeper than ${MAX_DEPTH}`);
    const selector = this.#negatedOrNot();
    this.#depth--;
    return selector;
  }

  #negatedOrNot(): Selector {
    if (this.#accept('symbol', '!')) {
      const inner = this.#single();
      return (labels) => !inner(labels);
    }
    if (this.#accept('symbol', '(')) {
      const inner = this.#either();
      this.#expect('symbol', ')', ')');
      return inner;
    }
    const word = this.#expect('label', 'a label, a function, ! or (');
    if (this.#accept('symbol', '(')) return this.#call(word);
    return this.#comparison(word);
  }

  #call(name: string): Selector {
    if (name === 'has') {
      const label = this.#expect('label', 'a label');
      this.#expect('symbol', ')', ')');
      return (labels) => Object.hasOwn(labels, label);
    }
    if (name !== 'all' && name !== 'global') throw new SyntaxError(`unknown function ${name}()`);
    this.#expect('symbol', ')', ')');
    // global() means "of no namespace"; what has node labels is never in one.
    return () => true;
  }

  #comparison(label: string): Selector {
    const labelIn = (labels: Labels) => (Object.hasOwn(labels, label) ? labels[label] : undefined);
    if (this.#accept('symbol', '==')) {
      const operand = this.#expect('string', 'a quoted string');
      return (labels) => labelIn(labels) === operand;
    }
    if (this.#accept('symbol', '!=')) {
      const operand = this.#expect('string', 'a quoted string');
      return (labels) => labelIn(labels) !== operand;
    }
    const negated = this.#accept('label', 'not');
    if (this.#accept('label', 'in')) {
      const set = this.#set();
      return (labels) => set.has(labelIn(labels)) !== negated;
    }
    const operator = negated ? undefined : OPERATORS[this.#peek().text];
    if (!operator || this.#peek().type !== 'label') throw this.#unexpected('an operator');
    if (this.#expect('label', 'an operator') !== 'contains') this.#expect('label', 'with', 'with');
    const operand = this.#expect('string', 'a quoted string');
    return (labels) => {
      const value = labelIn(labels);
      return value !== undefined && operator(value, operand);
    };
  }

  #set(): ReadonlySet<string | undefined> {
    const values = new Set<string | undefined>();
    this.#expect('symbol', '{', '{');
    if (this.#accept('symbol', '}')) return values;
    do values.add(this.#expect('string', 'a quoted string'));
    while (this.#accept('symbol', ','));
    this.#expect('symbol', '}', '}');
    return values;
  }
}

export function parseSelector(text: string): ParsedSelector {
  if (text.trim() === '') return { ok: true, selector: () => true };
  try {
    return { ok: true, selector: new Parser(text).parse() };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return { ok: false, problem: error.message };
  }
}

/** A selector that cannot be read selects nothing. */
export function selects(text: string, labels: Labels): boolean {
  const parsed = parseSelector(text);
  return parsed.ok && parsed.selector(labels);
}
